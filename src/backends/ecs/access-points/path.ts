/** Where a volume lies on the file system. */
import { createHash } from "node:crypto";

const directory = "/sockerless/volumes/";
/** EFS: at most 100 characters for the root directory of an access point. */
const longestPath = 100;
const hashLength = 32;

/**
 * The root directory of a volume's access point: `/sockerless/volumes/<name>`. Docker's names have no character that EFS
 * refuses, but may be longer than a path; the end of such a name is told by a hash of all of it.
 */
export function accessPointPath(volume: string): string {
  const longest = longestPath - directory.length;
  if (volume.length <= longest) {
    return directory + volume;
  }
  const hash = createHash("sha256").update(volume).digest("hex").slice(0, hashLength);
  return `${directory}${volume.slice(0, longest - hashLength - 1)}-${hash}`;
}
