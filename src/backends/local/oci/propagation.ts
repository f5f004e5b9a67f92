/** Mount propagation: a container can only take part in it if the machine's mount propagates. */
import { readFileSync } from "node:fs";

import { systemError } from "../../../common/errors.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";

/** Finds the mount that contains a path. */
export type MountLookup = (path: string) => SourceMount;

/** A mount with its propagation in the kernel's terms: `shared:1`, `master:1`. */
export interface SourceMount {
  readonly mountPoint: string;
  readonly propagation: readonly string[];
}

/** The mounts of this process, which are the machine's, read at the first lookup. @param path without links */
export function machineMounts(): MountLookup {
  let mounts: readonly SourceMount[] | undefined;
  return (path) => {
    mounts ??= parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
    return mountOf(path, mounts);
  };
}

/** The mounts of proc(5)'s mountinfo, in its order. */
export function parseMountInfo(text: string): SourceMount[] {
  return text.split("\n").flatMap((line) => {
    // ID parent device root point options optional… - type source options
    const [before = ""] = line.split(" - ", 1);
    const [, , , , point, , ...propagation] = before.split(" ");
    return point === undefined ? [] : [{ mountPoint: unescaped(point), propagation }];
  });
}

/** The mount that contains a path without links. */
export function mountOf(path: string, mounts: readonly SourceMount[]): SourceMount {
  let found: SourceMount = { mountPoint: "/", propagation: [] };
  for (const mount of mounts) {
    const { mountPoint } = mount;
    const isAbove = mountPoint === path || path.startsWith(mountPoint === "/" ? "/" : `${mountPoint}/`);
    // The last of several mounts at one place is visible.
    if (isAbove && mountPoint.length >= found.mountPoint.length) {
      found = mount;
    }
  }
  return found;
}

/** Decodes blanks and backslashes, which are written in octal. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
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
