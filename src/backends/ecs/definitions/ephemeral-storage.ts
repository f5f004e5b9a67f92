/** The disk of a task. */
import { invalid } from "../../../common/errors.ts";

/** Disk size of every task, in GiB. */
const includedGib = 20;
const largestGib = 200;

/**
 * The disk size requested by `--storage-opt size=`.
 *
 * @returns GiB; undefined for the default size
 * @throws invalid: not a size, or above the maximum
 */
export function ephemeralStorageOf(storageOpt: Readonly<Record<string, string>>): number | undefined {
  const size = storageOpt["size"];
  if (size === undefined) {
    return undefined;
  }
  const match = /^(\d+)([kmgt]?)i?b?$/i.exec(size.trim());
  if (match === null) {
    throw invalid(`invalid size: '${size}'`);
  }
  const power = ["", "k", "m", "g", "t"].indexOf((match[2] ?? "").toLowerCase());
  const gib = Math.ceil((Number(match[1]) * 1024 ** power) / 1024 ** 3);
  if (gib > largestGib) {
    throw invalid(`a task has at most ${largestGib} GiB of disk: ${size} was asked for`);
  }
  return gib <= includedGib ? undefined : gib;
}
