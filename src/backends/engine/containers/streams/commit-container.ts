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
  return await atServingAgent(context, record.id, signal, async () => {
    const agent = createAgentClient(servingAddressOf(context, record.id), agentOptions(context, record.id));
    try {
      await using _frozen = await frozen(context, record.id, request.pause, signal);
      const layer = exportedBytes(() => agent.client.export({ layer: true, mountPoints }, { signal }));
      const committed = await context.images.commit({ parentId: record.imageId, layer, ...image, signal });
      if (!isGiven) {
        await context.state.commit((change) =>
          change.event(containerEvent(record, "commit", { comment, imageID: committed.id, imageRef })),
        );
      }
      return committed;
    } finally {
      agent.close();
    }
  });
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
 * Pauses a running container until disposed, so that its files are consistent.
 *
 * @throws the signal's reason, if it aborts while the container changes otherwise
 */
async function frozen(
  context: EngineContext,
  containerId: string,
  wanted: boolean,
  signal: AbortSignal,
): Promise<AsyncDisposable> {
  const record = containerOfId(context.state, containerId);
  if (!wanted || stateOf(record).status !== ContainerStatus.RUNNING) {
    return { [Symbol.asyncDispose]: async () => {} };
  }
  try {
    await pauseContainer(context, record.id, "commit", signal);
  } catch (error) {
    signal.throwIfAborted();
    // As in Docker, a container that cannot be paused, perhaps because it has just ended, is committed as it is.
    context.logger.warn({ err: error, container: record.id }, "a container is committed without a pause");
    return { [Symbol.asyncDispose]: async () => {} };
  }
  return {
    [Symbol.asyncDispose]: async () => {
      try {
        await unpauseContainer(context, record.id);
      } catch (error) {
        const now = context.state.containers.get(record.id);
        if (now !== undefined && stateOf(now).status === ContainerStatus.PAUSED) {
          context.logger.warn(
            { err: error, container: record.id },
            "a container is not unpaused after a commit yet",
          );
          thawAfterCommit(context, context.live.of(record.id));
        } // Otherwise it has ended, or somebody else has unpaused it.
      }
    },
  };
}
