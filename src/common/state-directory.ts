import type { BackendName } from "./config/schema.ts";
import { makeDirectories } from "./make-directories.ts";

/**
 * Makes the state directory of a backend, unless it exists. That of `local` lets containers' users pass through, but
 * not list it; that of a cloud is open to its owner only.
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
