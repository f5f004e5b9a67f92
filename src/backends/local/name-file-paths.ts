import { join } from "node:path";

import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NameFilePaths } from "../common/driver.ts";

const sharedPrefix = "container:";

/**
 * Where a container's name files are: its own, those of the container whose network it shares, or what is mounted over
 * them.
 *
 * @param stateDir absolute; its layout is in docs/formats.md
 */
export function nameFilePaths(record: ContainerRecord, stateDir: string): NameFilePaths {
  const mode = record.hostConfig?.networkMode ?? "";
  const owner = mode.startsWith(sharedPrefix) ? mode.slice(sharedPrefix.length) : record.id;
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
