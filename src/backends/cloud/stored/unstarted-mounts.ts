import path from "node:path/posix";

import type { ContainerRecord, VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewContainer } from "./created-files.ts";

/**
 * The mounts of a container that has not run yet, and their future content: a shared volume's own files, the image's
 * files for a volume in a directory of the task, or nothing. There are no bind mounts.
 */
export function unstartedMounts(
  { mounts, hostConfig }: ContainerRecord,
  volumeOf: (name: string) => VolumeRecord | undefined,
): NewContainer["mounts"] {
  const shows = (type: string, name: string): NewContainer["mounts"][number]["shows"] => {
    if (type === "tmpfs") {
      return "nothing";
    }
    const volume = type === "volume" ? volumeOf(name) : undefined;
    if (volume === undefined || volume.driverReference !== "") {
      return "elsewhere";
    }
    return volume.anonymous && hostConfig?.readonlyRootfs !== true ? "image" : "nothing";
  };
  return [
    ...mounts
      .filter(({ type }) => type !== "bind")
      .map(({ type, name, destination }) => ({
        destination: path.resolve("/", destination),
        shows: shows(type, name),
      })),
    ...Object.keys(hostConfig?.tmpfs ?? {}).map((destination) => ({
      destination,
      shows: "nothing" as const,
    })),
  ];
}
