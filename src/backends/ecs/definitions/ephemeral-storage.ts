/** The disk of a task. */
import { invalid } from "../../../common/errors.ts";

/** The disk that every task has. GiB. */
const includedGib = 20;
const largestGib = 200;

/**
 * The disk that `--storage-opt size=` asks for.
 *
 * @returns GiB; undefined: as much as every task has
 * @throws invalid: no size, or more than there is
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
