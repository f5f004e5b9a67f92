import type { Clock } from "../../../common/clock.ts";
import { notFound } from "../../../common/errors.ts";
import { Phase, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { isNew } from "../../model/records.ts";
import type { LayerSupply } from "../../images/layer-supply.ts";
import type { State } from "../../state/state.ts";
import type { TaskAgents } from "../agents/task-agents.ts";
import { openStoredContainers, type StoredContainers } from "./stored-containers.ts";
import type { CloudLog } from "../contract/cloud-log.ts";
import { unstartedMounts } from "./unstarted-mounts.ts";

/** Parts of the backend that containers without an agent are served from. */
export interface CloudStoredOptions {
  readonly config: { readonly stateDir: string; readonly runDir: string };
  /** Most bytes of one container's log that are kept. */
  readonly logDrainMax: number;
  /** The backend's name. */
  readonly backend: string;
  readonly log: CloudLog;
  readonly agents: Pick<TaskAgents, "targetOf">;
  readonly state: Pick<State, "containers" | "tasks" | "volumes">;
  readonly layers: Pick<LayerSupply, "open">;
  readonly clock: Clock;
}

/**
 * Opens and serves the containers that have no agent: their logs are in the cloud's, what they are made of is in the image
 * store.
 */
export function openCloudStored(options: CloudStoredOptions): Promise<StoredContainers> {
  const { config, logDrainMax, backend, log, agents, layers, clock } = options;
  const { containers, tasks, volumes } = options.state;
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
        mounts: unstartedMounts(record, (name) => volumes.get(name)),
        isReadOnly: record.hostConfig?.readonlyRootfs === true,
      };
    },
    backend,
    clock,
  });
}
