import path from "node:path/posix";

import type { ContainerRecord, VolumeRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NewContainer } from "../common/cloud/stored/created-files.ts";

/**
 * What a container's mounts will show that has not run yet: a volume on EFS what is there, one that is a directory of
 * the task's own what the image has there, or nothing. Paths of a host are not mounted.
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
