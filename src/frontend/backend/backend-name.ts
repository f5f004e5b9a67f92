/** The backend's name, for answers that depend on it. */
import type { ReplyContext } from "../request-context.ts";
import type { BackendClients } from "./clients.ts";

/** Cached, as a backend never changes its name. */
const knownNames = new WeakMap<BackendClients, string>();

/** The backend's name as users write it: `local`. @throws unavailable: it cannot be reached */
export async function backendName({
  services,
  signal,
}: Pick<ReplyContext, "services" | "signal">): Promise<string> {
  const known = knownNames.get(services.backend);
  if (known !== undefined) {
    return known;
  }
  const { backend } = await services.backend.system.getCapabilities({}, { signal });
  knownNames.set(services.backend, backend);
  return backend;
}
