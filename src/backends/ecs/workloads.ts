import {
  type ContainerRecord,
  type ImageRecord,
  TaskPhase,
  type TaskRecord,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { SealedRecord, Sealer } from "../common/cloud/seal.ts";
import { type DocumentsOfImage, sealedContainerOf } from "../common/cloud/sealed-container.ts";
import { goesWithItsEnd, startDetails } from "../common/cloud/start-details.ts";
import type { FoundWorkload, Workloads } from "../common/driver.ts";
import { isNew } from "../common/engine/records.ts";
import type { State } from "../common/state/state.ts";
import { unmountedVolumes } from "./definitions/definition.ts";
import { refuseDirectories, withMissingDirectory } from "./access-points/parts.ts";
import { refuseTooManyImages } from "./definitions/image-mounts.ts";
import { refuseSizes } from "./definitions/refuse-sizes.ts";
import { end, release, remove, resumeDepartures } from "./tasks/endings.ts";
import { launch } from "./tasks/launch.ts";
import { lingersUntilMs } from "./tasks/lingering.ts";
import { list, listKnown } from "./tasks/list.ts";
import type { TaskContext } from "./tasks/task-context.ts";

/** What workloads need beside the tasks. */
export interface EcsWorkloadsOptions {
  readonly context: TaskContext;
  readonly sealer: Sealer;
  readonly imageDocuments: DocumentsOfImage;
  readonly state: Pick<State, "containers">;
}

/** Containers as Fargate tasks: one task for one start, and for those that follow while it lingers. */
export function ecsWorkloads({ context, sealer, imageDocuments, state }: EcsWorkloadsOptions): Workloads {
  let listing: Promise<readonly FoundWorkload[]> | undefined;
  let nextListing: Promise<readonly FoundWorkload[]> | undefined;
  const seal = async (record: ContainerRecord, images: readonly ImageRecord[]): Promise<SealedRecord> =>
    sealer.seal(await sealedContainerOf(record, images, imageDocuments));
  resumeDepartures(context);
  return {
    async create({ record, mounts }) {
      refuseTooManyImages(mounts);
      refuseDirectories(mounts);
      refuseSizes(record.hostConfig, mounts);
      // A created container costs nothing.
    },
    async launch(spec, signal, progress) {
      const launched = await launch(context, spec, signal, progress).catch((error: unknown) => {
        throw withMissingDirectory(error, spec.mounts);
      });
      context.mirror?.announce(spec.record, launched.address ?? "");
      return launched;
    },
    async startDetails(spec) {
      const mounted = spec.mounts.map(({ image }) => image).filter((image) => image !== undefined);
      return {
        ...startDetails(spec, context.start, await seal(spec.record, [spec.image, ...mounted])),
        volumeDirectories: [...unmountedVolumes(spec)],
      };
    },
    seal,
    started: (containerId) => context.stored.settleStaged(containerId),
    async release(containerId) {
      context.mirror?.withdraw(containerId);
      await context.stored.settleStaged(containerId);
      const record = state.containers.get(containerId);
      await release(context, containerId, record !== undefined && goesWithItsEnd(record));
    },
    interruptionOf: (containerId) => context.book.of(containerId)?.endReason ?? "",
    remove: (containerId) => remove(context, containerId),
    end: (containerId, signal) => end(context, containerId, signal),
    // Where many agents are away at once, all ask at once; but an answer that is on its way knows nothing of what was
    // started since, so that those who come meanwhile share the next.
    list() {
      nextListing ??= Promise.allSettled([listing]).then(() => {
        listing = nextListing;
        nextListing = undefined;
        return listAll(context, state.containers);
      });
      return nextListing;
    },
    known: () => listKnown(context),
    wholeLog(containerId) {
      const { phase, logStreams = [] } = context.book.of(containerId) ?? {};
      const hasAgent = phase === TaskPhase.SERVING || phase === TaskPhase.LINGERING;
      return hasAgent && logStreams.length > 1 ? { kind: "unix", path: context.stored.socket } : undefined;
    },
    stored(containerId) {
      const record = state.containers.get(containerId);
      if (record !== undefined && isNew(record)) {
        return { kind: "unix", path: context.stored.socket }; // The task of a start that failed goes with what is in it.
      }
      const task = context.book.of(containerId);
      const agent = task !== undefined && isThere(context, task) ? context.agents.addressOf(task) : undefined;
      return agent ?? { kind: "unix", path: context.stored.socket };
    },
  };
}

/** Whether a task's agent answers for a container that has ended: while its log is being taken in, and while it lingers. */
function isThere({ clock }: TaskContext, task: TaskRecord): boolean {
  return task.phase === TaskPhase.SERVING || lingersUntilMs(task) > clock.nowMs();
}

/** Names of containers that do not run any more are taken from outsiders, too. */
async function listAll(
  context: TaskContext,
  containers: Pick<ReadonlyMap<string, unknown>, "has">,
): Promise<readonly FoundWorkload[]> {
  const found = await list(context, containers);
  const running = found.filter(({ agent, unanswered }) => agent !== undefined || unanswered === true);
  context.mirror?.reconcile(new Set(running.map(({ containerId }) => containerId)));
  return found;
}
