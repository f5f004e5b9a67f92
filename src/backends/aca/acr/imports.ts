/** Imports of images by an Azure registry from another registry. */
import type { Clock } from "../../../common/clock.ts";
import { invalid, systemError } from "../../../common/errors.ts";
import type { NamedReference } from "../../images/reference.ts";
import type { AzureClients, PlainAnswer } from "../arm/clients.ts";
import { isAcr } from "./credentials.ts";

/** Settings and dependencies of {@link importImage}. */
export interface ImportOptions {
  readonly azure: Pick<AzureClients, "call" | "request" | "armUrl">;
  readonly subscriptionId: string;
  readonly resourceGroup: string;
  /** Its resource ID; undefined if it is in the resource group and named like its host. */
  readonly registryId: string | undefined;
  /** The registry's host. */
  readonly server: string;
  /** Its configured user; undefined if none. */
  readonly username: string | undefined;
  readonly clock: Clock;
}

const apiVersion = "2023-07-01";
const pollMs = 2_000;
/** Time limit; importing the largest images takes minutes, and callers have their own limits. */
const longestMs = 30 * 60_000;

/**
 * Has the registry import an image with all layers under a tag, replacing the tag's previous image.
 *
 * @param target `repository:tag`
 * @throws AzureError; invalid: no Azure registry is configured
 */
export async function importImage(
  options: ImportOptions,
  { domain, path, tag = "latest", digest }: NamedReference,
  target: string,
  signal: AbortSignal,
): Promise<void> {
  const { azure, clock } = options;
  const resourceId = options.registryId ?? registryIdOf(options);
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

/** The registry's resource ID. A registry behind another host name is identified by its administrator account. */
function registryIdOf({ subscriptionId, resourceGroup, server, username }: ImportOptions): string {
  const name = isAcr(server) ? server.split(".", 1)[0] : username;
  if (name === undefined) {
    throw invalid(
      `aca.registry_server must be the login server of a registry in Azure, not ${server}, or aca.registry_id be set`,
    );
  }
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ContainerRegistry/registries/${name}`;
}
