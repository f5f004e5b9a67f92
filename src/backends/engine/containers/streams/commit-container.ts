/** `docker commit`: creates an image from a container's changes. */
import { exportedBytes } from "../../../../agent-client/export.ts";
import { createAgentClient } from "../../../../agent-client/client.ts";
import { conflict, invalid } from "../../../../common/errors.ts";
import {
  type CommitContainerRequest,
  ContainerStatus,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { CommittedImage } from "../../../driver/image-source.ts";
import { applyChanges } from "../../../images/changes/apply-changes.ts";
import { familiarString, parseTarget } from "../../../images/reference.ts";
import { agentOptions, servingAddressOf } from "../agent/agent-endpoint.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import type { EngineContext } from "../../context.ts";
import { mergeConfig } from "../decisions/config/merge-config.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { atServingAgent } from "../agent/leaving-agents.ts";
import { containerOfId, findContainer } from "../decisions/lookup.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { withoutInnerSocketLabels } from "../../../model/inner-socket-labels.ts";
import { configOf, stateOf } from "../../../model/records.ts";
import { pauseContainer, thawAfterCommit, unpauseContainer } from "../run/pause-container.ts";

/**
 * Creates an image.
 *
 * @throws not-found: no such container, or its image is gone; conflict: it is being removed; invalid: changes, name or
 *   configuration
 */
export async function commitContainer(
  context: EngineContext,
  request: CommitContainerRequest,
  signal: AbortSignal,
): Promise<CommittedImage> {
  const record = findContainer(context.state, request.container);
  refuseGoing(context, record);
  const own = configOf(record);
  const merged = mergeConfig(applyChanges(request.config ?? own, request.changes), own);
  const config = { ...merged, labels: withoutInnerSocketLabels(merged.labels) };
  const { reference, comment, author, mountPoints, imageConfig } = request;
  const isGiven = imageConfig.length > 0;
  if (isGiven && reference !== "") {
    throw invalid("a configuration of an image that is committed stands beside a name");
  }
  const imageRef = reference === "" ? "" : familiarString(parseTarget(reference));
  const createdBy = own.cmd?.values.join(" ") ?? "";
  const ofBuild = isOfBuild(own.labels);
  const given = isGiven ? { imageConfig } : {};
  const image = { config, createdBy, author, comment, reference, ofBuild, ...given };
  const make = async (ending: AbortSignal): Promise<CommittedImage> => {
    const agent = createAgentClient(servingAddressOf(context, record.id), agentOptions(context, record.id));
    try {
      await using _frozen = await frozen(context, record.id, request.pause, ending);
      const layer = exportedBytes(() =>
        agent.client.export({ layer: true, mountPoints }, { signal: ending }),
      );
      const made = { parentId: record.imageId, layer, ...image, signal: ending };
      const committed = await context.images.commit(made);
      if (!isGiven) {
        await context.state.commit((change) =>
          change.event(containerEvent(record, "commit", { comment, imageID: committed.id, imageRef })),
        );
      }
      return committed;
    } finally {
      agent.close();
    }
  };
  // At the engine's end, too: what is read once the container goes on belongs to no moment.
  const ended = AbortSignal.any([signal, context.shutdown]);
  return await atServingAgent(context, record.id, signal, () => withScopedSignal(ended, make));
}

function refuseGoing(context: EngineContext, record: ContainerRecord): void {
  if (stateOf(record).status === ContainerStatus.DEAD) {
    throw conflict(`You cannot commit container ${record.id} which is Dead`);
  }
  if (context.live.peek(record.id)?.run.isRemoving === true) {
    throw conflict(`You cannot commit container ${record.id} which is being removed`);
  }
}

/**
 * Pauses a running container until disposed, or the engine closes, so that its files are consistent.
 *
 * @throws the signal's reason, if it aborts while the container changes otherwise
 */
async function frozen(
  context: EngineContext,
  containerId: string,
  wanted: boolean,
  signal: AbortSignal,
): Promise<AsyncDisposable> {
  const { id, state } = containerOfId(context.state, containerId);
  if (!wanted || state?.status !== ContainerStatus.RUNNING) {
    return { [Symbol.asyncDispose]: async () => {} };
  }
  const [begun, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const freeze = async (): Promise<void> => {
    try {
      await pauseContainer(context, id, "commit", signal);
    } catch (error) {
      begun.reject(error);
      return;
    }
    begun.resolve();
    await unlessAborted(context.shutdown, over.promise).catch(() => undefined);
    await thawed(context, id);
  };
  const freezing = context.freezes.run(`commit container ${id}`, freeze);
  try {
    await begun.promise;
  } catch (error) {
    signal.throwIfAborted();
    // As in Docker, a container that cannot be paused, perhaps because it has just ended, is committed as it is.
    context.logger.warn({ err: error, container: id }, "a container is committed without a pause");
  }
  return {
    [Symbol.asyncDispose]: async () => {
      over.resolve();
      await freezing;
    },
  };
}

/** Unpauses a container after a commit, also while the engine closes. */
async function thawed(context: EngineContext, containerId: string): Promise<void> {
  try {
    await unpauseContainer(context, containerId, new AbortController().signal);
  } catch (error) {
    const now = context.state.containers.get(containerId);
    if (now !== undefined && stateOf(now).status === ContainerStatus.PAUSED) {
      context.logger.warn(
        { err: error, container: containerId },
        "a container is not unpaused after a commit yet",
      );
      thawAfterCommit(context, context.live.of(containerId));
    } // Otherwise it has ended, or somebody else has unpaused it.
  }
}
