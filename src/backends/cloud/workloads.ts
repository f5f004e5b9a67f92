import { isFullId } from "../../common/ids.ts";
import {
  type ContainerRecord,
  type ImageRecord,
  Phase,
  TaskPhase,
  type TaskRecord,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { SealedRecord, Sealer } from "./authority/seal.ts";
import { type DocumentsOfImage, sealedContainerOf } from "./authority/sealed-container.ts";
import { goesWithItsEnd, startDetails } from "./tasks/start-details.ts";
import type { Seals } from "../driver/agents.ts";
import type { Launches } from "../driver/launches.ts";
import type { FoundWorkload, Workloads } from "../driver/workloads.ts";
import { noNameFiles } from "../driver/ready-made-roles.ts";
import { isNew } from "../model/records.ts";
import type { State } from "../state/state.ts";
import type { ServiceDiscovery } from "./contract/service-discovery.ts";
import { release, remove, resumeDepartures } from "./tasks/endings.ts";
import { launch } from "./tasks/launch.ts";
import { lingersUntilMs } from "./tasks/lingering.ts";
import { find, list } from "./tasks/list.ts";
import { mayLaunchAgain } from "./tasks/lost-agent.ts";
import type { TaskContext } from "./tasks/task-context.ts";
import { withBegin } from "./tasks/unrecorded-start.ts";

/** Dependencies of workloads besides tasks. */
export interface CloudWorkloadsOptions {
  readonly context: TaskContext;
  readonly discovery: ServiceDiscovery;
  readonly state: Pick<State, "containers">;
}

/** Containers as tasks of a cloud: one task per start, reused by further starts while it lingers. */
export function cloudWorkloads(options: CloudWorkloadsOptions): Workloads {
  const { context, discovery, state } = options;
  const { requests } = context;
  /** Also withdraws published names of containers that no longer run. */
  const listAll = async (): Promise<readonly FoundWorkload[]> => {
    const found = await list(context, state.containers);
    const running = found.filter(({ agent, unanswered }) => agent !== undefined || unanswered === true);
    const names = running.map(({ containerId }) => containerId);
    if (names.every(isFullId)) {
      discovery.reconcile(new Set(names)); // Otherwise a running container is not known by its full ID.
    }
    return found;
  };
  resumeDepartures(context);
  return {
    async create({ record, mounts }) {
      await requests.refuseUnfit(record, mounts);
      // A created container has no task.
    },
    async launch(spec, signal, progress) {
      const launched = await launch(context, spec, signal, progress).catch((error: unknown) => {
        throw requests.explainFailure(error, spec.mounts);
      });
      discovery.announce(spec.record, launched.address ?? "");
      return launched;
    },
    async release(containerId) {
      discovery.withdraw(containerId);
      context.interrupted.forget(containerId);
      await context.stored.settleStaged(containerId);
      const record = state.containers.get(containerId);
      await release(context, containerId, record !== undefined && goesWithItsEnd(record));
    },
    onEnd: (containerId, ended) => context.cloud.onEnd(context.book.of(containerId)?.task ?? "", ended),
    interruptionOf: (containerId) => context.book.of(containerId)?.endReason ?? "",
    remove: (containerId) => remove(context, containerId),
    list: listAll,
    async find(containerId) {
      const found = await find(context, containerId);
      const isStartRecorded = state.containers.get(containerId)?.phase !== Phase.STARTING;
      const isOver = found !== undefined && found.agent === undefined && found.exit !== undefined;
      return isOver && !isStartRecorded ? await withBegin(context, found) : found;
    },
    nameFilePaths: noNameFiles,
    wholeLog(containerId) {
      const { phase, logStreams = [] } = context.book.of(containerId) ?? {};
      const hasAgent = phase === TaskPhase.SERVING || phase === TaskPhase.LINGERING;
      return hasAgent && logStreams.length > 1 ? { kind: "unix", path: context.stored.socket } : undefined;
    },
    stored(containerId) {
      const record = state.containers.get(containerId);
      if (record !== undefined && isNew(record)) {
        return { kind: "unix", path: context.stored.socket }; // The task of a failed start ends with everything in it.
      }
      const task = context.book.of(containerId);
      const agent = task !== undefined && isThere(context, task) ? context.agents.addressOf(task) : undefined;
      return agent ?? { kind: "unix", path: context.stored.socket };
    },
    storedServed: () => Promise.resolve(), // By this process.
  };
}

/** Seals of records. */
export interface CloudSeals extends Pick<Seals, "seal"> {
  seal(record: ContainerRecord, images: readonly ImageRecord[]): Promise<SealedRecord>;
}

/** Sealed records that agents store of their containers. */
export function cloudSeals(sealer: Sealer, imageDocuments: DocumentsOfImage): CloudSeals {
  return {
    seal: async (record, images) => sealer.seal(await sealedContainerOf(record, images, imageDocuments)),
  };
}

/** Launches, which take as long as the cloud needs: agents learn what to run with the start. */
export function cloudLaunches(context: TaskContext, { seal }: CloudSeals): Launches {
  return {
    stopDuringLaunch: "end",
    steps: { kind: "in-its-files" },
    async startDetails(spec) {
      const mounted = spec.mounts.map(({ image }) => image).filter((image) => image !== undefined);
      return {
        ...startDetails(spec, context.startSettings, await seal(spec.record, [spec.image, ...mounted])),
        exitKey: context.exitKey(spec.record.id, spec.record.generation),
        volumeDirectories: [...context.requests.unmountedVolumes(spec)],
      };
    },
    mayLaunchAgain: (containerId, lost) => mayLaunchAgain(context, containerId, lost),
    async started(containerId) {
      context.interrupted.forget(containerId);
      await context.stored.settleStaged(containerId);
    },
  };
}

/** Whether a task's agent serves an ended container: while its log is being copied, and while it lingers. */
function isThere({ clock }: TaskContext, task: TaskRecord): boolean {
  return task.phase === TaskPhase.SERVING || lingersUntilMs(task) > clock.nowMs();
}
