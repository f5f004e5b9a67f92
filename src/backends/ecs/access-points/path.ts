/** Paths of volumes on the file system, within the limits of EFS. */
import { createHash } from "node:crypto";

import { invalid } from "../../../common/errors.ts";

const directory = "/sockerless/volumes/";
/** EFS: at most 100 characters for the root directory of an access point. */
const longestPath = 100;
/** EFS: at most four levels of directories in it. */
const deepestPath = 4;
/** Characters that EFS refuses in a path. */
const refusedCharacter = /[$#<>;`\\|&?{}^*\n]/;
const hashLength = 32;

/**
 * The root directory of a volume's access point: `/sockerless/volumes/<name>`. Docker's names have no characters that
 * EFS refuses, but may be too long; the end of such a name is replaced by a hash of all of it.
 */
export function accessPointPath(volume: string): string {
  const longest = longestPath - directory.length;
  if (volume.length <= longest) {
    return directory + volume;
  }
  const hash = createHash("sha256").update(volume).digest("hex").slice(0, hashLength);
  return `${directory}${volume.slice(0, longest - hashLength - 1)}-${hash}`;
}

/**
 * The root directory of the access point for a volume's subpath.
 *
 * @param subpath normalized
 * @throws invalid: EFS refuses it
 */
export function partPath(volume: string, subpath: string): string {
  const path = `${accessPointPath(volume)}/${subpath}`;
  const fault = faultOf(path);
  if (fault !== undefined) {
    throw invalid(
      `invalid mount config for type "volume": subpath ${subpath} of volume ${volume} cannot be mounted from EFS: ${fault}`,
    );
  }
  return path;
}

function faultOf(path: string): string | undefined {
  const names = path.split("/").slice(1);
  const refused = refusedCharacter.exec(path)?.[0];
  if (names.length > deepestPath) {
    return `an access point is at most ${deepestPath} directories deep, and ${path} is ${names.length}`;
  }
  if (path.length > longestPath) {
    return `the path of an access point has at most ${longestPath} characters, and ${path} has ${path.length}`;
  }
  if (names.some((name) => name.startsWith("."))) {
    return `no directory in the path of an access point begins with a dot: ${path}`;
  }
  return refused === undefined
    ? undefined
    : `the path of an access point has no character ${JSON.stringify(refused)}: ${path}`;
}
