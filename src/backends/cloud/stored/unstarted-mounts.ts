import path from "node:path/posix";

import type { ContainerRecord, VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewContainer } from "./created-files.ts";

/**
 * The mounts of a container that has not run yet, and what each will show: a volume on a file system its own
 * files, one that is a directory of the task's own those of the image, or nothing. Bind mounts are left out:
 * no path of a host is mounted.
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
