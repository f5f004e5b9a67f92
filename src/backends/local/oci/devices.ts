import { join } from "node:path/posix";
import { invalid, systemError } from "../../../common/errors.ts";
import type { DeviceMapping } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { DeviceNode } from "../../../gen/sockerless/host/v1/host_pb.ts";
import type { LookedUpPaths } from "./looked-up-paths.ts";
import type { OciDevice, OciDeviceRule } from "./types.ts";

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

/** `--privileged`, `--device` and `--device-cgroup-rule`, converted for the runtime. */
export function containerDevices(
  { mappings, cgroupRules, privileged }: DeviceRequest,
  paths: LookedUpPaths,
): { devices: OciDevice[]; rules: OciDeviceRule[] } {
  const asked = mappings
    .map(({ pathInContainer, ...rest }) => ({ ...rest, pathInContainer: pathInContainer || rest.pathOnHost }))
    // A privileged container already has it there.
    .filter(({ pathOnHost, pathInContainer }) => !privileged || pathOnHost !== pathInContainer)
    .flatMap((mapping) =>
      mappedDevices(mapping, paths).map((device) => ({
        device,
        rule: {
          ...rule(true, device.type, device.major, device.minor),
          access: mapping.cgroupPermissions || "rwm",
        },
      })),
    );
  const devices = asked.map(({ device }) => device);
  return privileged
    ? {
        devices: [...paths.machineDevices.map((node) => deviceAt(join("/dev", node.path), node)), ...devices],
        rules: [{ allow: true, access: "rwm" }],
      }
    : {
        devices,
        rules: [
          ...defaultDeviceRules,
          ...asked.map((each) => each.rule),
          ...cgroupRules.map(parseCgroupRule),
        ],
      };
}

/** A device, or all devices in a directory. */
function mappedDevices({ pathOnHost, pathInContainer }: DeviceMapping, paths: LookedUpPaths): OciDevice[] {
  const { nodes, failure } = paths.devices(pathOnHost);
  if (nodes.length === 0) {
    throw systemError(
      `error gathering device information while adding custom device "${pathOnHost}": ${failure || "not a device node"}`,
    );
  }
  return nodes.map((node) => deviceAt(join(pathInContainer, node.path), node));
}

function deviceAt(path: string, { type, major, minor, mode, uid, gid }: DeviceNode): OciDevice {
  return { path, type: type === "b" ? "b" : "c", major, minor, fileMode: mode, uid, gid };
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
