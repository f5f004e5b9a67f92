/** Looks at paths of this machine that users name. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import { invalid } from "../../common/errors.ts";
import type { Resources } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { LookUpPathsRequestSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { WorkloadSpec } from "../driver/workload-spec.ts";
import { isWellKnownSocket } from "../model/docker-socket.ts";
import { type HostClient, orHostError } from "./host-client.ts";
import type { LookedUpPaths } from "./oci/looked-up-paths.ts";
import { sourceOf } from "./oci/mounts.ts";
import { propagates } from "./oci/propagation.ts";
import { limitedDevices } from "./oci/resources.ts";

/** Looks at the paths that a container's configuration depends on. @throws as {@link lookUpPaths} */
export async function pathsOfWorkload(
  host: HostClient["client"],
  { record, mounts }: WorkloadSpec,
): Promise<LookedUpPaths> {
  const { privileged = false, resources } = record.hostConfig ?? {};
  return await lookUpPaths(host, {
    paths: mounts.filter(propagates).map(sourceOf),
    devices: [...(resources?.devices ?? []).map(({ pathOnHost }) => pathOnHost), ...limitPaths(resources)],
    machineDevices: privileged,
  });
}

/** Looks at the devices that limits are for. @throws as {@link lookUpPaths} */
export async function pathsOfLimits(host: HostClient["client"], limits: Resources): Promise<LookedUpPaths> {
  return await lookUpPaths(host, { devices: limitPaths(limits) });
}

function limitPaths(resources: Resources | undefined): string[] {
  return resources === undefined ? [] : limitedDevices(resources).map(({ path }) => path);
}

/** Has the host process look at paths; without any it is not asked. @throws system: a file system does not answer */
async function lookUpPaths(
  host: HostClient["client"],
  request: MessageInitShape<typeof LookUpPathsRequestSchema>,
): Promise<LookedUpPaths> {
  const { paths = [], devices = [], machineDevices = false } = request;
  const isEmpty = paths.length + devices.length === 0 && !machineDevices;
  const found = isEmpty ? undefined : await orHostError(host.lookUpPaths(request));
  const realPaths = new Map(paths.map((path, index) => [path, found?.paths[index]?.realPath]));
  const devicesAt = new Map(devices.map((path, index) => [path, found?.devices[index]]));
  return {
    realPath: (path) => realPaths.get(path) || path,
    devices: (path) => devicesAt.get(path) ?? { nodes: [], failure: "no such file or directory" },
    machineDevices: found?.machineDevices ?? [],
  };
}

/**
 * Whether a bind mount's source exists; a Docker socket counts as one that does, as its containers' shims provide it.
 *
 * @throws invalid, in Docker's words; system: its file system does not answer
 */
export async function bindSourceExists(host: HostClient["client"], source: string): Promise<boolean> {
  if (isWellKnownSocket(source)) {
    return true;
  }
  const { paths } = await orHostError(host.lookUpPaths({ paths: [source] }));
  const { failure = "", missing = false } = paths[0] ?? {};
  if (failure !== "" && !missing) {
    throw invalid(`invalid mount config for type "bind": stat ${source}: ${failure}`);
  }
  return !missing;
}
