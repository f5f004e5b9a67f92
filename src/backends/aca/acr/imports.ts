/** Images that a registry in Azure fetches from another by itself. */
import { z } from "zod";

import type { Clock } from "../../../common/clock.ts";
import { notFound, systemError } from "../../../common/errors.ts";
import type { NamedReference } from "../../common/images/reference.ts";
import type { AzureClients, PlainAnswer } from "../arm/clients.ts";
import { isAcr } from "./credentials.ts";

/** Settings of {@link importImage}, and what it calls. */
export interface ImportOptions {
  readonly azure: Pick<AzureClients, "call" | "request" | "armUrl">;
  readonly subscriptionId: string;
  readonly resourceGroup: string;
  /** The registry's host. */
  readonly server: string;
  readonly clock: Clock;
}

const apiVersion = "2023-07-01";
const pollMs = 2_000;
/** An import of the largest images takes minutes; whoever waits has a limit of its own. */
const longestMs = 30 * 60_000;

const registriesSchema = z.object({
  value: z.array(z.object({ id: z.string(), properties: z.object({ loginServer: z.string() }) })),
});

/**
 * Has the registry fetch an image, layers and all, under a name of its own; one that is there under that name goes.
 *
 * @param target `repository:tag`
 * @throws AzureError; not-found: the registry is not in the resource group
 */
export async function importImage(
  options: ImportOptions,
  { domain, path, tag = "latest", digest }: NamedReference,
  target: string,
  signal: AbortSignal,
): Promise<void> {
  const { azure, clock } = options;
  const resourceId = await registryId(options, signal);
  const url = azure.armUrl(`${resourceId}/importImage`, apiVersion);
  const from = domain === options.server ? { resourceId } : { registryUri: domain };
  const body = {
    source: { ...from, sourceImage: digest === undefined ? `${path}:${tag}` : `${path}@${digest}` },
    targetTags: [target],
    mode: "Force",
  };
  const asked = await azure.call(
    "Registries_ImportImage",
    (call) => azure.request({ method: "POST", url, body }, call),
    signal,
  );
  const deadline = clock.nowMs() + longestMs;
  for (let answer: PlainAnswer = asked; answer.status === 202; ) {
    const location = answer.header("location") ?? asked.header("location");
    if (location === undefined || clock.nowMs() > deadline) {
      throw systemError(`Registries_ImportImage: the import of ${domain}/${path} does not end`);
    }
    await clock.sleep(Number(answer.header("retry-after") ?? 0) * 1000 || pollMs, signal);
    answer = await azure.call(
      "Registries_ImportImage",
      (call) => azure.request({ method: "GET", url: location }, call),
      signal,
    );
  }
}

/** The registry's resource ID: one of Azure's own names has its name in it, another is looked for. */
async function registryId(options: ImportOptions, signal: AbortSignal): Promise<string> {
  const { azure, subscriptionId, resourceGroup, server } = options;
  const registries = `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ContainerRegistry/registries`;
  if (isAcr(server)) {
    return `${registries}/${server.split(".", 1)[0]}`;
  }
  const { body } = await azure.call(
    "Registries_ListByResourceGroup",
    (call) => azure.request({ method: "GET", url: azure.armUrl(registries, apiVersion) }, call),
    signal,
  );
  const found = registriesSchema
    .safeParse(body)
    .data?.value.find(({ properties }) => properties.loginServer.toLowerCase() === server.toLowerCase());
  if (found === undefined) {
    throw notFound(`there is no registry ${server} in the resource group ${resourceGroup}`);
  }
  return found.id;
}
