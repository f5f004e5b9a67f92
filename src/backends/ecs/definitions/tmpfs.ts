/** tmpfs mounts as task definitions have them. */
import type { Tmpfs } from "@aws-sdk/client-ecs";

import { invalid } from "../../../common/errors.ts";
import type { ResolvedMount } from "../../common/driver.ts";

/** AWS demands a size; Docker's clients rarely name one. MiB. */
const defaultMib = 64;
const units: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/**
 * A tmpfs mount. Its size is an option of its own for AWS; the other options are the kernel's for both.
 *
 * @throws invalid: a size that is none
 */
export function taskTmpfs(mount: ResolvedMount): Tmpfs {
  const options = mount.tmpfsOptions ?? [];
  const size = options.find((option) => option.startsWith("size="))?.slice("size=".length);
  const rest = options.filter((option) => !option.startsWith("size="));
  return {
    containerPath: mount.destination,
    size: size === undefined ? defaultMib : mebibytes(size),
    ...(rest.length > 0 ? { mountOptions: rest } : {}),
  };
}

function mebibytes(text: string): number {
  const match = /^(\d+)([kmg]?)$/i.exec(text);
  if (match === null) {
    throw invalid(`invalid tmpfs size: ${text}`);
  }
  const bytes = Number(match[1]) * (units[(match[2] ?? "").toLowerCase()] ?? 1);
  return Math.max(1, Math.ceil(bytes / 1024 ** 2));
}
