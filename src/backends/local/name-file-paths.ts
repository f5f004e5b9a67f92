import { join } from "node:path";

import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NameFilePaths } from "../driver/workloads.ts";
import { containerOfMode } from "../model/container-mode.ts";

/**
 * The paths of a container's name files: its own, those of the container whose network it shares (directly or through
 * others), or files that are mounted over them.
 *
 * @param stateDir absolute; docs/formats.md describes its layout
 * @param containerOf looks up a container by full ID; undefined if it is gone
 */
export function nameFilePaths(
  record: ContainerRecord,
  stateDir: string,
  containerOf: (id: string) => ContainerRecord | undefined,
): NameFilePaths {
  let owner = record.id;
  for (let next = joinedBy(record); next !== undefined; next = joinedBy(containerOf(next))) {
    owner = next;
  }
  const pathOf = (name: string): string => {
    const mount = record.mounts.find(({ destination }) => destination === `/etc/${name}`);
    return mount?.source ?? join(stateDir, "containers", owner, "files", name);
  };
  return {
    hostnamePath: pathOf("hostname"),
    hostsPath: pathOf("hosts"),
    resolvConfPath: pathOf("resolv.conf"),
  };
}

/** The ID of the container whose network another one shares. */
function joinedBy(record: ContainerRecord | undefined): string | undefined {
  return containerOfMode(record?.hostConfig?.networkMode ?? "");
}
