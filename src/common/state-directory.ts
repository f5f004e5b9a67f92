import type { BackendName } from "./config/schema.ts";
import { makeDirectories } from "./make-directories.ts";

/**
 * Makes the state directory of a backend, unless it is there. Users of containers pass through that of `local`, which
 * nobody else may list; that of a cloud is its owner's alone.
 *
 * @throws SockerlessError of the kind that the errno means
 */
export async function makeStateDirectory({
  backend,
  stateDir,
}: {
  readonly backend: BackendName;
  readonly stateDir: string;
}): Promise<void> {
  await makeDirectories(stateDir, backend === "local" ? 0o711 : 0o700);
}
