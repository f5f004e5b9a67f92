/**
 * The place of a state's pods, and the authority that their agents know. A kubeconfig whose current context was changed leads
 * to another namespace, and another `agent_ca` selects other pods: containers that run would count as ended, and their pods be
 * deleted.
 */
import { readFile, writeFile } from "node:fs/promises";

import { conflict, unlessMissing } from "../../common/errors.ts";
import type { KubernetesClient } from "./api/client.ts";
import { isMissing, KubernetesError } from "./api/errors.ts";

/** Parts of {@link refuseOthersPods}. */
export interface OwnPodsOptions {
  readonly client: Pick<KubernetesClient, "call" | "core" | "namespace" | "server">;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** Keeps the UID of the namespace, and the instance. */
  readonly file: string;
  /** Whether the state has containers that run. */
  readonly hasRunning: () => boolean;
}

/**
 * Refuses a namespace or an instance other than that of the state's running containers. Namespaces that may not be read are not
 * told apart.
 *
 * @throws conflict; KubernetesError
 */
export async function refuseOthersPods({
  client,
  instance,
  file,
  hasRunning,
}: OwnPodsOptions): Promise<void> {
  const known = (await readFile(file, "utf8").catch(unlessMissing)) ?? "";
  const [knownUid = "", knownInstance = ""] = known.split(" ");
  const uid = (await uidOf(client)) ?? knownUid;
  const isElsewhere = knownUid !== "" && uid !== knownUid;
  const isAnother = knownInstance !== "" && instance !== knownInstance;
  if ((isElsewhere || isAnother) && hasRunning()) {
    throw conflict(
      isAnother
        ? `the agents of this state's containers know another authority: set kubernetes.agent_ca to that, or delete ${file} if it is lost, and their pods be deleted`
        : `the containers of this state run in another namespace than ${client.namespace} at ${client.server}: set kubernetes.context and kubernetes.namespace to theirs, or delete ${file} if that is gone`,
    );
  }
  const own = `${uid} ${instance}`;
  if (own !== known) {
    await writeFile(file, own, { mode: 0o600 }).catch(() => {}); // With a full disk they are not told apart.
  }
}

/** @returns empty: there is no such namespace; undefined: it may not be read */
async function uidOf({ call, core, namespace: name }: OwnPodsOptions["client"]): Promise<string | undefined> {
  try {
    return (await call("get namespaces", (options) => core.readNamespace({ name }, options))).metadata?.uid;
  } catch (error) {
    if (isMissing(error)) {
      return "";
    }
    if (error instanceof KubernetesError && error.isDenied) {
      return undefined;
    }
    throw error;
  }
}
