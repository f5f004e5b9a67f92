import { lstatSync, readdirSync, type Stats, statSync } from "node:fs";
import { basename, join } from "node:path/posix";
import type { DeviceMapping } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { errnoOf, invalid, messageOf, systemError } from "../../../common/errors.ts";
import type { OciDevice, OciDeviceRule } from "./types.ts";

const fileTypeMask = 0o170000;
const characterDevice = 0o020000;
const blockDevice = 0o060000;

/** Type, numbers, mode and owner of a device node on this machine. */
export interface DeviceNumbers {
  readonly kind: "c" | "b";
  readonly major: number;
  readonly minor: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Looks up a device node; undefined if the path is not a device. @throws errors of `stat` */
export type DeviceLookup = (path: string) => DeviceNumbers | undefined;

/** A device node, with its path relative to the searched directory. */
export interface FoundDevice extends DeviceNumbers {
  readonly path: string;
}

/** Counts files that are looked at for one container. */
export interface SearchBudget {
  left: number;
}

/**
 * Finds the device nodes in a directory and below, but for directories of the skipped names; undefined if the path is not a
 * directory.
 *
 * @throws system: too many files
 */
export type DeviceSearch = (
  directory: string,
  budget: SearchBudget,
  skipped?: ReadonlySet<string>,
) => readonly FoundDevice[] | undefined;

/** The most files that are looked at for the devices of a container: a /dev has some hundreds. */
const mostFiles = 10_000;

function spend(budget: SearchBudget): void {
  if (budget.left === 0) {
    throw systemError(`more than ${mostFiles} files`);
  }
  budget.left -= 1;
}

/** Looks up the machine's own device nodes. */
export const machineDevices: DeviceLookup = (path) => deviceOf(statSync(path));

/** Finds device nodes of the machine; skips links, and nodes that vanish meanwhile. */
export const machineDevicesBelow: DeviceSearch = (directory, budget, skipped = new Set()) => {
  try {
    return nodesBelow(directory, "", budget, skipped);
  } catch (error) {
    if (errnoOf(error) === "ENOTDIR") {
      return undefined;
    }
    throw error;
  }
};

function nodesBelow(
  directory: string,
  below: string,
  budget: SearchBudget,
  skipped: ReadonlySet<string>,
): FoundDevice[] {
  return readdirSync(join(directory, below), { withFileTypes: true }).flatMap((entry) => {
    spend(budget);
    const path = join(below, entry.name);
    try {
      if (entry.isDirectory()) {
        return skipped.has(entry.name) ? [] : nodesBelow(directory, path, budget, skipped);
      }
      const numbers = deviceOf(lstatSync(join(directory, path)));
      return numbers === undefined ? [] : [{ ...numbers, path }];
    } catch (error) {
      if (errnoOf(error) === "ENOENT") {
        return [];
      }
      throw error;
    }
  });
}

function deviceOf(node: Stats): DeviceNumbers | undefined {
  const format = node.mode & fileTypeMask;
  if (format !== characterDevice && format !== blockDevice) {
    return undefined;
  }
  // glibc's dev_t: 12 bits of major and 20 of minor, each split in two.
  const rdev = BigInt(node.rdev);
  return {
    kind: format === characterDevice ? "c" : "b",
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & ~0xffn)),
    mode: node.mode & 0o7777,
    uid: node.uid,
    gid: node.gid,
  };
}

function rule(
  allow: boolean,
  kind: OciDevice["type"],
  major: number | undefined,
  minor: number | undefined,
): OciDeviceRule {
  return {
    allow,
    type: kind,
    ...(major !== undefined && { major }),
    ...(minor !== undefined && { minor }),
    access: "rwm",
  };
}

/** Device rules of every container, as in dockerd: null, zero, full, random, urandom, tty, console; never fuse. */
const defaultDeviceRules: readonly OciDeviceRule[] = [
  { allow: false, access: "rwm" },
  rule(true, "c", 1, 5),
  rule(true, "c", 1, 3),
  rule(true, "c", 1, 9),
  rule(true, "c", 1, 8),
  rule(true, "c", 5, 0),
  rule(true, "c", 5, 1),
  rule(false, "c", 10, 229),
];

/** Devices requested for a container. */
export interface DeviceRequest {
  readonly mappings: readonly DeviceMapping[];
  readonly cgroupRules: readonly string[];
  /** Whether the container gets the machine's devices, and may use all of them. */
  readonly privileged: boolean;
}

/** How device nodes are found. */
export interface DeviceSource {
  readonly lookUp: DeviceLookup;
  readonly below: DeviceSearch;
}

/** `--privileged`, `--device` and `--device-cgroup-rule`, converted for the runtime. */
export function containerDevices(
  { mappings, cgroupRules, privileged }: DeviceRequest,
  source: DeviceSource,
): { devices: OciDevice[]; rules: OciDeviceRule[] } {
  const budget = { left: mostFiles };
  const asked = mappings
    .map(({ pathInContainer, ...rest }) => ({ ...rest, pathInContainer: pathInContainer || rest.pathOnHost }))
    // A privileged container already has it there.
    .filter(({ pathOnHost, pathInContainer }) => !privileged || pathOnHost !== pathInContainer)
    .flatMap((mapping) =>
      mappedDevices(mapping, source, budget).map((device) => ({
        device,
        rule: {
          ...rule(true, device.type, device.major, device.minor),
          access: mapping.cgroupPermissions || "rwm",
        },
      })),
    );
  const devices = asked.map(({ device }) => device);
  return privileged
    ? { devices: [...hostDevices(source.below, budget), ...devices], rules: [{ allow: true, access: "rwm" }] }
    : {
        devices,
        rules: [
          ...defaultDeviceRules,
          ...asked.map((each) => each.rule),
          ...cgroupRules.map(parseCgroupRule),
        ],
      };
}

/** Directories of /dev without devices of the machine, or that each container has its own of; as in dockerd. */
const ownDirectories = new Set(["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"]);

/** The machine's devices, except its console. */
function hostDevices(below: DeviceSearch, budget: SearchBudget): OciDevice[] {
  return (below("/dev", budget, ownDirectories) ?? [])
    .filter(({ path }) => basename(path) !== "console")
    .map((found) => deviceAt(join("/dev", found.path), found));
}

/** A device, or all devices in a directory. */
function mappedDevices(
  mapping: DeviceMapping,
  { lookUp, below }: DeviceSource,
  budget: SearchBudget,
): OciDevice[] {
  const { pathOnHost, pathInContainer } = mapping;
  let fault = "not a device node";
  let cause: unknown;
  try {
    spend(budget);
    const found = lookUp(pathOnHost);
    const devices =
      found === undefined
        ? (below(pathOnHost, budget) ?? []).map((each) => deviceAt(join(pathInContainer, each.path), each))
        : [deviceAt(pathInContainer, found)];
    if (devices.length > 0) {
      return devices;
    }
  } catch (error) {
    fault = errnoOf(error) === undefined ? messageOf(error) : "no such file or directory";
    cause = error;
  }
  throw systemError(
    `error gathering device information while adding custom device "${pathOnHost}": ${fault}`,
    cause,
  );
}

function deviceAt(path: string, { kind, major, minor, mode, uid, gid }: DeviceNumbers): OciDevice {
  return { path, type: kind, major, minor, fileMode: mode, uid, gid };
}

/** Parses a `--device-cgroup-rule` such as `c 42:* rmw`. */
function parseCgroupRule(text: string): OciDeviceRule {
  const match = /^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$/.exec(text);
  if (match === null) {
    throw invalid(`invalid device cgroup rule format: '${text}'`);
  }
  const [, kind, major, minor, access = ""] = match;
  return {
    allow: true,
    type: kind as "a" | "c" | "b",
    ...(major !== "*" && { major: Number(major) }),
    ...(minor !== "*" && { minor: Number(minor) }),
    access,
  };
}
