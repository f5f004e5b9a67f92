import type { DeviceNode, FoundDevices } from "../../../gen/sockerless/host/v1/host_pb.ts";

/**
 * Results of a look at the paths of this machine that a container's settings name. Only the host process looks: a file
 * system may not answer, which would hold up a whole Node process.
 */
export interface LookedUpPaths {
  /** The path without links; as it is if nothing is there. */
  realPath(path: string): string;
  /** The device, or all in the directory and below. */
  devices(path: string): Pick<FoundDevices, "nodes" | "failure">;
  /** All in /dev, but the console and those that each container has its own of. */
  readonly machineDevices: readonly DeviceNode[];
}
