/**
 * The namespace of a state's pods. A kubeconfig whose current context was changed leads to another one, where containers that run
 * would count as ended.
 */
import { readFile, writeFile } from "node:fs/promises";

import { conflict, unlessMissing } from "../../common/errors.ts";
import type { KubernetesClient } from "./api/client.ts";
import { isMissing, KubernetesError } from "./api/errors.ts";

/** Parts of {@link refuseOtherNamespace}. */
export interface OwnNamespaceOptions {
  readonly client: Pick<KubernetesClient, "call" | "core" | "namespace" | "server">;
  /** Keeps the UID of the namespace. */
  readonly file: string;
  /** Whether the state has containers that run. */
  readonly hasRunning: () => boolean;
}

/**
 * Refuses a namespace other than that of the state's running containers. Namespaces that may not be read are not told apart.
 *
 * @throws conflict; KubernetesError
 */
export async function refuseOtherNamespace({ client, file, hasRunning }: OwnNamespaceOptions): Promise<void> {
  const uid = await uidOf(client);
  const known = await readFile(file, "utf8").catch(unlessMissing);
  if (uid === undefined || uid === known) {
    return;
  }
  if (known && hasRunning()) {
    throw conflict(
      `the containers of this state run in another namespace than ${client.namespace} at ${client.server}: set kubernetes.context and kubernetes.namespace to theirs, or delete ${file} if that is gone`,
    );
  }
  await writeFile(file, uid, { mode: 0o600 }).catch(() => {}); // With a full disk they are not told apart.
}

/** @returns empty: there is no such namespace; undefined: it may not be read */
async function uidOf({
  call,
  core,
  namespace: name,
}: OwnNamespaceOptions["client"]): Promise<string | undefined> {
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
