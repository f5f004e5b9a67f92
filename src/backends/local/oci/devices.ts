import { statSync } from "node:fs";
import type { DeviceMapping } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { invalid, systemError } from "../../../common/errors.ts";
import type { OciDevice, OciDeviceRule } from "./types.ts";

const fileTypeMask = 0o170000;
const characterDevice = 0o020000;
const blockDevice = 0o060000;

/** Numbers of a device node on this machine. */
export interface DeviceNumbers {
  readonly kind: "c" | "b";
  readonly major: number;
  readonly minor: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Looks a device node up; undefined where the path is no device. Throws what `stat` throws. */
export type DeviceLookup = (path: string) => DeviceNumbers | undefined;

/** The machine's own device nodes. */
export const machineDevices: DeviceLookup = (path) => {
  const node = statSync(path);
  const format = node.mode & fileTypeMask;
  if (format !== characterDevice && format !== blockDevice) {
    return undefined;
  }
  // dev_t as glibc packs it: 12 bits of major and 20 of minor, each in two pieces.
  const rdev = BigInt(node.rdev);
  return {
    kind: format === characterDevice ? "c" : "b",
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & ~0xffn)),
    mode: node.mode & 0o7777,
    uid: node.uid,
    gid: node.gid,
  };
};

function rule(
  allow: boolean,
  kind: "c" | "b",
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

/** What every container may reach: null, zero, full, random, urandom, tty, console; never fuse. As dockerd. */
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

/** `--device` and `--device-cgroup-rule` as the runtime takes them. */
export function containerDevices(
  mappings: readonly DeviceMapping[],
  cgroupRules: readonly string[],
  lookup: DeviceLookup,
): { devices: OciDevice[]; rules: OciDeviceRule[] } {
  const devices: OciDevice[] = [];
  const rules: OciDeviceRule[] = [...defaultDeviceRules];
  for (const mapping of mappings) {
    const found = lookupMapped(mapping, lookup);
    const path = mapping.pathInContainer === "" ? mapping.pathOnHost : mapping.pathInContainer;
    const { kind, major, minor, mode, uid, gid } = found;
    devices.push({ path, type: kind, major, minor, fileMode: mode, uid, gid });
    rules.push({ ...rule(true, kind, major, minor), access: mapping.cgroupPermissions || "rwm" });
  }
  return { devices, rules: [...rules, ...cgroupRules.map(parseCgroupRule)] };
}

function lookupMapped(mapping: DeviceMapping, lookup: DeviceLookup): DeviceNumbers {
  let found: DeviceNumbers | undefined;
  try {
    found = lookup(mapping.pathOnHost);
  } catch (cause) {
    throw systemError(
      `error gathering device information while adding custom device "${mapping.pathOnHost}": no such file or directory`,
      cause,
    );
  }
  if (found === undefined) {
    throw systemError(
      `error gathering device information while adding custom device "${mapping.pathOnHost}": not a device node`,
    );
  }
  return found;
}

/** A rule of `--device-cgroup-rule`, such as `c 42:* rmw`. */
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
