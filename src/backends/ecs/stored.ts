import { systemClock } from "../../common/clock.ts";
import type { EcsConfig } from "../../common/config/load.ts";
import { notFound, unavailable } from "../../common/errors.ts";
import { Phase, TaskPhase } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { CloudAuthority } from "../common/cloud/authority.ts";
import type { Sealer } from "../common/cloud/seal.ts";
import { openStoredContainers, type StoredContainers } from "../common/cloud/stored/stored-containers.ts";
import { isNew } from "../common/engine/records.ts";
import type { ImageStore } from "../common/images/image-store.ts";
import type { State } from "../common/state/state.ts";
import type { AwsClients } from "./aws/clients.ts";
import { cloudWatchLog } from "./logs/cloudwatch-log.ts";
import { TaskAgents } from "./tasks/task-agents.ts";
import { unstartedMounts } from "./unstarted-mounts.ts";

/** What is known of containers without an agent, and by whom. */
export interface EcsStoredOptions {
  readonly config: EcsConfig;
  readonly logs: AwsClients["logs"];
  readonly authority: CloudAuthority;
  readonly sealer: Sealer;
  readonly state: State;
  /** Undefined: it is not open yet. */
  readonly imageStore: () => ImageStore | undefined;
}

/**
 * Opens and serves the containers that have no agent: their logs are in CloudWatch, what they are made of is in the image
 * store.
 */
export function openEcsStored(options: EcsStoredOptions): Promise<StoredContainers> {
  const { config, logs, state, imageStore } = options;
  const { containers, tasks, volumes } = state;
  const agents = new TaskAgents(options.authority, options.sealer);
  return openStoredContainers({
    stateDir: config.stateDir,
    runDir: config.runDir,
    logDrainMax: config.ecs.logDrainMax,
    cloud: cloudWatchLog({
      logs,
      logGroup: config.ecs.logGroup,
      streamsOf: (containerId) => tasks.get(containerId)?.logStreams ?? [],
    }),
    liveAgent: (containerId) => {
      const task = tasks.get(containerId);
      return task?.phase === TaskPhase.SERVING ? agents.targetOf(task) : undefined;
    },
    isNew: (containerId) => {
      const record = containers.get(containerId);
      return record === undefined ? undefined : isNew(record);
    },
    isStarting: (containerId) => containers.get(containerId)?.phase === Phase.STARTING,
    newContainer: async (containerId, signal) => {
      const record = containers.get(containerId);
      if (record === undefined) {
        throw notFound(`No such container: ${containerId}`);
      }
      const layers = await imageStore()?.openLayers(record.imageId, signal);
      if (layers === undefined) {
        throw unavailable("the backend is still starting");
      }
      return {
        ...layers,
        mounts: unstartedMounts(record, (name) => volumes.get(name)),
        isReadOnly: record.hostConfig?.readonlyRootfs === true,
      };
    },
    backend: "ecs",
    clock: systemClock,
  });
}
