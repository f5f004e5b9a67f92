/**
 * The place of a state's pods, and the authority that their agents know. A kubeconfig whose current context was changed leads
 * to another namespace, and another `agent_ca` selects other pods: containers that run would count as ended, and their pods be
 * deleted.
 */
import { readFile, rename, writeFile } from "node:fs/promises";

import { SockerlessError, unlessMissing } from "../../common/errors.ts";
import type { KubernetesClient } from "./api/client.ts";
import { isMissing, KubernetesError } from "./api/errors.ts";

/** A place or an authority other than that of the state's running containers. */
export class OtherPlace extends SockerlessError {
  /** Whether it is another namespace: calls reach none of the state's pods. */
  readonly isElsewhere: boolean;

  constructor(isElsewhere: boolean, message: string) {
    super("system", message); // A forced removal takes a conflict for a container that has ended meanwhile, and goes on.
    this.isElsewhere = isElsewhere;
  }
}

/** Parts of {@link refuseOtherPlace}. */
export interface OwnPodsOptions {
  readonly client: Pick<KubernetesClient, "call" | "core" | "namespace" | "server">;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** Keeps the UID of the namespace, the instance, and the namespace's name and server. */
  readonly file: string;
  /** The tasks of the state's running containers. */
  readonly running: () => readonly string[];
}

/**
 * Refuses a namespace or an instance other than that of the state's running containers, and without a pod of theirs. A
 * namespace that may not be read is told from others by its name and server.
 *
 * @param found the tasks of this instance's pods there
 * @throws OtherPlace; KubernetesError
 */
export async function refuseOtherPlace(
  { client, instance, file, running }: OwnPodsOptions,
  found: Pick<ReadonlySet<string>, "has">,
): Promise<void> {
  const known = (await readFile(file, "utf8").catch(unlessMissing)) ?? "";
  const [knownUid = "", knownInstance = "", knownPlace = ""] = known.split(" ");
  const place = `${client.server}/${client.namespace}`;
  const told = await uidOf(client);
  const isElsewhere =
    told === undefined || knownUid === "" ? knownPlace !== "" && place !== knownPlace : told !== knownUid;
  const isAnother = knownInstance !== "" && instance !== knownInstance;
  const tasks = running();
  const isTheirs = tasks.length === 0 || tasks.some((task) => found.has(task));
  if ((isElsewhere || isAnother) && !isTheirs) {
    throw new OtherPlace(
      isElsewhere,
      isElsewhere
        ? `the containers of this state run in another namespace than ${client.namespace} at ${client.server}: set kubernetes.context and kubernetes.namespace to theirs; if that is gone, delete ${file}: the containers have ended then`
        : `the agents of this state's containers know another authority: set kubernetes.agent_ca to that one; if it is lost, delete ${file}: the containers have ended then, and sockerless gc --remove --instance ${knownInstance} deletes their pods`,
    );
  }
  const uid = told ?? (isElsewhere ? "" : knownUid);
  const own = `${uid} ${instance} ${place}`;
  if (own !== known) {
    try {
      await writeFile(`${file}.new`, own, { mode: 0o600, flush: true });
      await rename(`${file}.new`, file);
    } catch {
      // With a full disk they are not told apart.
    }
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
    if (error instanceof KubernetesError && error.outcome === "refused") {
      return undefined; // The right is missing, or a proxy lets no such call pass.
    }
    throw error;
  }
}
