import type { Clock } from "../../../common/clock.ts";
import { notFound } from "../../../common/errors.ts";
import { Phase, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { isNew } from "../../model/records.ts";
import { volumeOfMount } from "../../model/volume-of-mount.ts";
import type { LayerSupply } from "../../images/layer-supply.ts";
import type { State } from "../../state/state.ts";
import type { TaskAgents } from "../agents/task-agents.ts";
import { openStoredContainers, type StoredContainers } from "./stored-containers.ts";
import type { CloudLog } from "../contract/cloud-log.ts";
import { unstartedMounts } from "./unstarted-mounts.ts";

/** Dependencies for serving containers without an agent. */
export interface CloudStoredOptions {
  readonly config: { readonly stateDir: string; readonly runDir: string };
  /** Maximum bytes to keep of one container's log. */
  readonly logDrainMax: number;
  /** The backend's name, for messages. */
  readonly backend: string;
  readonly log: CloudLog;
  readonly agents: Pick<TaskAgents, "targetOf">;
  readonly state: Pick<State, "containers" | "tasks" | "volumes">;
  readonly layers: Pick<LayerSupply, "open">;
  readonly clock: Clock;
}

/** Opens and serves containers without an agent: logs from the cloud, files from the image store. */
export function openCloudStored(options: CloudStoredOptions): Promise<StoredContainers> {
  const { config, logDrainMax, backend, log, agents, layers, clock } = options;
  const { containers, tasks } = options.state;
  return openStoredContainers({
    ...config,
    logDrainMax,
    cloud: log,
    liveAgent: (containerId) => {
      const task = tasks.get(containerId);
      return task?.phase === TaskPhase.SERVING ? agents.targetOf(task) : undefined;
    },
    isNew: (containerId) => {
      const record = containers.get(containerId);
      return record === undefined ? undefined : isNew(record);
    },
    isStarting: (containerId) => containers.get(containerId)?.phase === Phase.STARTING,
    workingDirectoryOf: (containerId) => containers.get(containerId)?.config?.workingDir ?? "",
    newContainer: async (containerId, signal) => {
      const record = containers.get(containerId);
      if (record === undefined) {
        throw notFound(`No such container: ${containerId}`);
      }
      return {
        ...(await layers.open(record.imageId, signal)),
        mounts: unstartedMounts(record, (name) => volumeOfMount(options.state, record, name)),
        isReadOnly: record.hostConfig?.readonlyRootfs === true,
      };
    },
    backend,
    clock,
  });
}
