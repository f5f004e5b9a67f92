/** Mount propagation: a container can only take part in it if the machine's mount propagates. */
import { readFileSync } from "node:fs";

import { systemError } from "../../../common/errors.ts";
import { type MountInfo, parseMountInfo } from "../../../common/mount-info.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";

/** Finds the mount that contains a path. */
export type MountLookup = (path: string) => SourceMount;

/** A mount, as far as it is looked at here. */
export type SourceMount = Pick<MountInfo, "mountPoint" | "propagation">;

/** The mounts of this process, which are the machine's, read at the first lookup. @param path without links */
export function machineMounts(): MountLookup {
  let lookUp: MountLookup | undefined;
  return (path) => {
    lookUp ??= mountLookup(parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8")));
    return lookUp(path);
  };
}

/**
 * Finds a path's mount by binary search, since both may be thousands, and either as deep as a path can be.
 *
 * @param mounts in mountinfo's order
 */
export function mountLookup(mounts: readonly SourceMount[]): MountLookup {
  // The last of several mounts at one place is visible.
  const byKey = new Map(mounts.map((mount) => [keyOf(mount.mountPoint), mount]));
  const keys = [...byKey.keys()].sort();
  const containing = indexesOfContaining(keys);
  return (path) => {
    const key = keyOf(path);
    // The mount that contains the path is the last one before it in order, or contains that one.
    let at = lastUpTo(key, keys);
    const common = commonLength(key, keys[at] ?? "");
    while ((keys[at]?.length ?? 0) > common) {
      at = containing[at] ?? none;
    }
    return byKey.get(keys[at] ?? "") ?? { mountPoint: "/", propagation: [] };
  };
}

/** A path such that those of what it contains begin with it, and stand right behind it in order. */
function keyOf(path: string): string {
  // Ten times as fast as replaceAll for deep paths.
  return path === "/" ? "\0" : `${path.split("/").join("\0")}\0`;
}

/** The index of no key. */
const none = -1;

/** For each key the index of the longest other one that it begins with. @param keys in order */
function indexesOfContaining(keys: readonly string[]): Int32Array {
  const found = new Int32Array(keys.length);
  for (const [index, key] of keys.entries()) {
    let at = index - 1;
    while (at !== none && !key.startsWith(keys[at] ?? "")) {
      at = found[at] ?? none;
    }
    found[index] = at;
  }
  return found;
}

/** The index of the last key up to one. @param keys in order */
function lastUpTo(key: string, keys: readonly string[]): number {
  let low = none;
  let high = keys.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((keys[middle] ?? "") <= key) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a.charCodeAt(length) === b.charCodeAt(length)) {
    length++;
  }
  return length;
}

/** True if mounts are to appear in the container, or those of the container outside: that depends on the source's mount. */
export function propagates({ propagation = "" }: ResolvedMount): boolean {
  return shared.has(propagation) || slave.has(propagation);
}

const shared: ReadonlySet<string> = new Set(["shared", "rshared"]);
const slave: ReadonlySet<string> = new Set(["slave", "rslave"]);

/**
 * The propagation that a container's root needs for that of its mounts.
 *
 * @returns undefined for the runtime's default
 * @throws system, in Docker's words, if a source does not propagate mounts
 */
export function rootPropagation(
  mounts: readonly (readonly [mount: ResolvedMount, source: string])[],
  lookUp: MountLookup,
): "shared" | "rslave" | undefined {
  let wanted: "shared" | "rslave" | undefined;
  for (const [{ propagation = "", propagationAsked }, source] of mounts) {
    if (shared.has(propagation)) {
      requireOption(source, lookUp, ["shared:"], "a shared");
      wanted = "shared";
    } else if (slave.has(propagation)) {
      if (propagationAsked === false && !hasOption(lookUp(source), slaveOptions)) {
        continue; // The default for the backend's own directories, only applied if the source propagates.
      }
      requireOption(source, lookUp, slaveOptions, "a shared or slave");
      wanted ??= "rslave";
    }
  }
  return wanted;
}

const slaveOptions = ["shared:", "master:"];

function requireOption(source: string, lookUp: MountLookup, options: readonly string[], what: string): void {
  const mount = lookUp(source);
  if (!hasOption(mount, options)) {
    throw systemError(`path ${source} is mounted on ${mount.mountPoint} but it is not ${what} mount`);
  }
}

function hasOption({ propagation }: SourceMount, options: readonly string[]): boolean {
  return propagation.some((word) => options.some((option) => word.startsWith(option)));
}
