/** Paths of volumes on the file system, within the limits of EFS. */
import { createHash } from "node:crypto";

import { invalid } from "../../../common/errors.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { creatorOf } from "../../model/inner-socket-labels.ts";

const directory = "/sockerless/volumes/";
/** EFS: at most 100 characters for the root directory of an access point. */
const longestPath = 100;
/** EFS: at most four levels of directories in it. */
const deepestPath = 4;
/** Characters that EFS refuses in a path. */
const refusedCharacter = /[$#<>;`\\|&?{}^*\n]/;
const hashLength = 32;

/** The part of a volume's record that its path depends on. */
export type NamedVolume = Pick<VolumeRecord, "name" | "labels" | "created">;

/**
 * The root directory of a volume's access point: `/sockerless/volumes/<name>`. Docker's names have no characters that
 * EFS refuses, but may be too long; the end of such a name is replaced by a hash of all of it.
 */
export function accessPointPath(volume: NamedVolume): string {
  const name = directoryName(volume);
  const longest = longestPath - directory.length;
  if (name.length <= longest) {
    return directory + name;
  }
  return `${directory}${name.slice(0, longest - hashLength - 1)}-${hashOf(name).slice(0, hashLength)}`;
}

/**
 * The volume's name; of one that was created at a container's socket with more, so that it is never the directory of
 * another, removed volume with this name, nor of another instance's.
 */
function directoryName({ name, labels, created }: NamedVolume): string {
  const creator = creatorOf(labels);
  return creator === undefined
    ? name
    : `${name}-${hashOf(`${creator} ${created?.seconds}.${created?.nanos}`).slice(0, 12)}`;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/**
 * The root directory of the access point for a volume's subpath.
 *
 * @param subpath normalized
 * @throws invalid: EFS refuses it
 */
export function partPath(volume: NamedVolume, subpath: string): string {
  const path = `${accessPointPath(volume)}/${subpath}`;
  const fault = faultOf(path);
  if (fault !== undefined) {
    throw invalid(
      `invalid mount config for type "volume": subpath ${subpath} of volume ${volume.name} cannot be mounted from EFS: ${fault}`,
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
