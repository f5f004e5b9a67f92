import { arch, release } from "node:os";

import { parseSeccompProfile, type ResolvedProfile, resolveSeccompOn } from "../../security/seccomp.ts";
import type { SecurityOptions } from "../../security/options.ts";
import defaultProfile from "./default-seccomp.json" with { type: "json" };

/** Docker's default profile. */
export const dockersProfile = parseSeccompProfile(JSON.stringify(defaultProfile));

/**
 * The filter of a container on this machine. `privileged` disables the default, as in dockerd.
 *
 * @returns undefined for no filter
 */
export function seccompFilter(
  asked: SecurityOptions["seccomp"],
  privileged: boolean,
  capabilities: readonly string[],
): ResolvedProfile | undefined {
  const profile = asked ?? (privileged ? "unconfined" : "builtin");
  if (profile === "unconfined") {
    return undefined;
  }
  return resolveSeccompOn(release(), profile === "builtin" ? dockersProfile : profile, {
    architecture: arch() === "x64" ? "amd64" : arch(),
    capabilities,
  });
}
