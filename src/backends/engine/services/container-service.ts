/** RPC implementation of ContainerService. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";

import {
  type AttachContainerRequest,
  AttachContainerResponseSchema,
  type AttachContainerResponse,
  type ContainerService,
  type WaitContainerRequest,
  type WaitContainerResponse,
  WaitContainerResponseSchema,
} from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { endpointFor } from "../containers/agent/agent-endpoint.ts";
import type { EngineContext } from "../context.ts";
import { failedAgentReplaced } from "../containers/agent/leaving-agents.ts";
import { listContainers } from "../containers/list/list-containers.ts";
import { detailOf, summaryOf } from "../containers/list/summary.ts";
import { ContainerNames } from "../containers/decisions/links/link-names.ts";
import { containerOfId, findContainer } from "../containers/decisions/lookup.ts";
import { attachContainer } from "../containers/streams/attach-container.ts";
import { commitContainer } from "../containers/streams/commit-container.ts";
import { type CreatedContainer, createContainer } from "../containers/create/create-container.ts";
import { openChanges } from "../containers/streams/open-changes.ts";
import { openArchive, openLogs } from "../containers/streams/open-streams.ts";
import { recordStreamUse } from "../containers/streams/record-stream-use.ts";
import { removeContainer } from "../containers/remove/remove-container.ts";
import { resizeContainer } from "../containers/streams/resize-container.ts";
import { describePorts, openTunnel } from "../containers/streams/open-ports.ts";
import { startContainer } from "../containers/start/start-container.ts";
import { isStartingShortly, shortStartSettled } from "../containers/start/start-under-way.ts";
import { signalContainer } from "../containers/run/signal-container.ts";
import { restartContainer } from "../containers/run/restart-container.ts";
import { stopContainer } from "../containers/run/stop-container.ts";
import { waitForContainer } from "../containers/run/wait-container.ts";
import { isVisible, millisecondsOf } from "../../model/records.ts";
import { type ContainerSize, sizesOf } from "./sizes.ts";
import { containerVerbs } from "./container-verbs.ts";
import { withHeartbeats } from "../../concurrency/heartbeats.ts";
import { KeptAnswers } from "../../concurrency/kept-answers.ts";

/** Milliseconds for which a creation that is repeated with its token, as its answer was lost, is answered as the first one. */
const tokenLifetimeMs = 3_600_000;
const mostTokens = 10_000;

const noSizes: ReadonlyMap<string, ContainerSize> = new Map();

/** Implements the service for an engine. */
export function containerService(context: EngineContext): Partial<ServiceImpl<typeof ContainerService>> {
  const creations = new KeptAnswers<CreatedContainer>(context.clock, tokenLifetimeMs, mostTokens);
  return {
    createContainer: async (request) => {
      const { clientToken } = request;
      const create = async (): Promise<CreatedContainer> =>
        createdBefore(context, clientToken) ?? (await createContainer(context, request));
      const created = await (clientToken === "" ? create() : creations.of(clientToken, create));
      return { id: created.id, warnings: [...created.warnings] };
    },
    startContainer: async (request, call) => {
      const { container, clientToken, published, publishFailure, secrets, secretEnv, nextStep } = request;
      const { id } = findContainer(context.state, container);
      const once = {
        secrets: { files: secrets, env: secretEnv },
        nextStep,
        clientToken,
        queued: call.signal,
      };
      await startContainer(context, id, "user", { published, publishFailure }, call.signal, once);
      return {};
    },
    stopContainer: async ({ container, timeoutSeconds, signal }, call) => {
      await stopContainer(context, container, { timeoutSeconds, signal }, call.signal);
      return {};
    },
    killContainer: async ({ container, signal }, call) => {
      await signalContainer(context, container, signal, call.signal);
      return {};
    },
    restartContainer: async (request, call) => {
      const { container, timeoutSeconds, signal, published, publishFailure, clientToken } = request;
      const ports =
        published.length === 0 && publishFailure === "" ? undefined : { published, publishFailure };
      const options = { timeoutSeconds, signal, clientToken };
      await restartContainer(context, container, options, call.signal, ports);
      return {};
    },
    removeContainer: async ({ container, force, volumes, link }, call) => {
      await removeContainer(context, container, { force, volumes, link }, call.signal);
      return {};
    },
    waitContainer: (request, call) => waitContainer(context, request, call),
    listContainers: async (request, call) => {
      const names = new ContainerNames(context.state);
      const records = listContainers(context, request, names);
      const sizes = request.size ? await sizesOf(context, records, call.signal) : noSizes;
      return {
        containers: records.map((each) => ({ ...summaryOf(context, each, names), ...sizes.get(each.id) })),
      };
    },
    inspectContainer: async ({ container, size, afterStart, unlessStarting }, call) => {
      let record = findContainer(context.state, container);
      const live = context.live.of(record.id);
      if (unlessStarting && isStartingShortly(context, live)) {
        return {};
      }
      if (afterStart) {
        await shortStartSettled(context, live, call.signal);
        record = containerOfId(context.state, record.id, container);
      }
      const sizes = size ? await sizesOf(context, [record], call.signal) : noSizes;
      return { container: { ...detailOf(context, record), ...sizes.get(record.id) } };
    },
    awaitStart: async ({ container }, call) => {
      const { id } = findContainer(context.state, container);
      await shortStartSettled(context, context.live.of(id), call.signal);
      return {};
    },
    attachContainer: (request, call) => attach(context, request, call),
    describePorts: ({ container }) => describePorts(context, container),
    openTunnel: ({ container, access }) => openTunnel(context, container, access),
    resizeContainer: async ({ container, height, width }, call) => {
      await resizeContainer(context, container, height, width, call.signal);
      return {};
    },
    ...containerVerbs(context),
    openLogs: async ({ container, access }, call) => {
      await failedAgentReplaced(context, container, access, call.signal);
      return await openLogs(context, container, access);
    },
    openChanges: async ({ container, access, export: isExport }, call) => {
      await failedAgentReplaced(context, container, access, call.signal);
      return { endpoint: await openChanges(context, container, access, isExport) };
    },
    commitContainer: async (request, call) => {
      const signal = AbortSignal.any([call.signal, context.shutdown]);
      const { id, diffIds, changesSize } = await commitContainer(context, request, signal);
      return { imageId: id, diffIds: [...diffIds], changesSize: BigInt(changesSize) };
    },
    recordStreamUse: async (request) => {
      await recordStreamUse(context, request);
      return {};
    },
    openArchive: async ({ container, access, write }, call) => {
      await failedAgentReplaced(context, container, access, call.signal);
      return await openArchive(context, container, access, write);
    },
  };
}

/** The container that a creation with this token made before the backend's last start. */
function createdBefore(context: EngineContext, token: string): CreatedContainer | undefined {
  const oldest = context.clock.nowMs() - tokenLifetimeMs;
  const made = context.state.containers
    .madeWith(token)
    .find((record) => isVisible(record) && millisecondsOf(record.created) > oldest);
  return made === undefined ? undefined : { id: made.id, warnings: [] };
}

async function* waitContainer(
  context: EngineContext,
  request: WaitContainerRequest,
  call: HandlerContext,
): AsyncGenerator<WaitContainerResponse> {
  const signal = AbortSignal.any([call.signal, context.shutdown]);
  const wait = waitForContainer(context, request, signal);
  // From here on the result is computed, even before the stream is read that far.
  wait.result.catch(() => undefined);
  async function* messages(): AsyncGenerator<WaitContainerResponse> {
    const { id, sinceUnixNs } = wait;
    yield create(WaitContainerResponseSchema, { message: { case: "accepted", value: { id, sinceUnixNs } } });
    const { exitCode, error } = await wait.result;
    yield create(WaitContainerResponseSchema, {
      message: { case: "exited", value: { exitCode: BigInt(exitCode), error } },
    });
  }
  yield* withHeartbeats(
    messages(),
    () => create(WaitContainerResponseSchema, { message: { case: "heartbeat", value: {} } }),
    context.clock,
    signal,
  );
}

async function* attach(
  context: EngineContext,
  request: AttachContainerRequest,
  call: HandlerContext,
): AsyncGenerator<AttachContainerResponse> {
  const signal = AbortSignal.any([call.signal, context.shutdown]);
  const attachment = await attachContainer(context, request, signal);
  async function* messages(): AsyncGenerator<AttachContainerResponse> {
    const { id, tty, openStdin, running, attachId } = attachment;
    yield create(AttachContainerResponseSchema, {
      message: { case: "accepted", value: { id, tty, openStdin, running } },
    });
    const endpoint = await endpointFor(context, id, await attachment.address, request.access);
    yield create(AttachContainerResponseSchema, {
      message: { case: "endpoint", value: { endpoint, attachId } },
    });
  }
  yield* withHeartbeats(
    messages(),
    () => create(AttachContainerResponseSchema, { message: { case: "heartbeat", value: {} } }),
    context.clock,
    signal,
  );
}
