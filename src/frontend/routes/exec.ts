/** `/containers/{id}/exec` and `/exec/…`: processes that are started in running containers. */
import type { Duplex } from "node:stream";

import { create } from "@bufbuild/protobuf";

import { encodeOpenExec } from "../../agent-client/session.ts";
import { isErrorKind, messageOf, SockerlessError } from "../../common/errors.ts";
import { TerminatorLost } from "../../common/tls-terminator.ts";
import { StreamUse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { AgentEndpoint } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import {
  type InspectExecResponse,
  InspectExecResponseSchema,
  type StartExecResponse,
} from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { readBody } from "../bodies/read-body.ts";
import { type ExecStart, execStartFromJson, execToJson, openExecOf } from "../convert/exec.ts";
import { HijackedConnection } from "../hijack.ts";
import { terminalSize } from "../http/query.ts";
import { replyEmpty, replyJson } from "../http/reply.ts";
import type { HijackContext, ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";
import { inBandText, prepareForStreaming } from "../streams/client-socket.ts";
import { detachKeysOf } from "../streams/detach-keys.ts";
import type { ExecEnd } from "../streams/exec-ends.ts";
import { type OpenStream, openStreamAt } from "../streams/open-stream.ts";
import { StreamError, type StreamLink } from "../streams/stream-link.ts";
import { streamToClient } from "../streams/stream-to-client.ts";
import { recordStreamUse } from "../streams/stream-use.ts";
import { onAbort } from "../../common/on-abort.ts";

/** The endpoints of execs. */
export const execRoutes: readonly Route[] = [
  { method: "POST", path: "/containers/{id}/exec", handler: postContainersExec },
  { method: "POST", path: "/exec/{id}/start", kind: "exec", hijack: true, handler: postExecStart },
  { method: "POST", path: "/exec/{id}/resize", handler: postExecResize },
  { method: "GET", path: "/exec/{id}/json", handler: getExecById },
];

async function postContainersExec(context: ReplyContext): Promise<void> {
  const { response, services, signal, parameters } = context;
  const { fields } = await readBody(context, "createExec");
  const { id } = await services.backend.execs.createExec(
    { container: parameters["id"] ?? "", ...fields },
    { signal },
  );
  replyJson(response, 201, { Id: id });
}

async function getExecById({ response, services, signal, parameters }: ReplyContext): Promise<void> {
  const execId = parameters["id"] ?? "";
  replyJson(response, 200, execToJson(await services.execEnds.inspect(execId, signal)));
}

async function postExecResize(context: ReplyContext): Promise<void> {
  const { response, services, signal, parameters, query } = context;
  const height = terminalSize(query, "h", "height");
  const width = terminalSize(query, "w", "width");
  await services.backend.execs.resizeExec({ execId: parameters["id"] ?? "", height, width }, { signal });
  replyEmpty(response, 200);
}

/** An exec whose client has been answered. */
interface AttachedExec {
  readonly exec: InspectExecResponse;
  readonly connection: HijackedConnection;
  readonly socket: Duplex;
  readonly multiplexed: boolean;
  readonly processEnd: ExecEnd;
  readonly link: StreamLink;
}

async function postExecStart(context: HijackContext): Promise<void> {
  using streaming = new DisposableStack();
  const attached = await attachExec(context, streaming);
  if (attached === undefined) {
    return;
  }
  const { exec, connection, socket, multiplexed, processEnd, link } = attached;
  await streamToClient(context, socket, link, {
    stdin: exec.openStdin,
    multiplexed,
    headerLead: () => connection.headerLead(),
    onDetach: () => recordStreamUse(context, exec.containerId, StreamUse.DETACHED, exec.id),
    onExit: (exitCode) => processEnd.exited(exitCode),
    async onCut() {
      await processEnd.cut(); // The client asks for the exit code next, and takes a missing one for 0.
      return false;
    },
  });
}

/**
 * Starts an exec, and answers its client. The environment that the backend tells for it may have megabytes, and is not kept
 * while the exec runs.
 *
 * @param streaming receives the mark of the exec's stream
 * @returns undefined if there is nothing to stream
 */
async function attachExec(
  context: HijackContext,
  streaming: DisposableStack,
): Promise<AttachedExec | undefined> {
  const { services, signal, parameters, version } = context;
  const connection = new HijackedConnection(context);
  const start = execStartFromJson(connection.readJson(), version);
  const execId = parameters["id"] ?? "";
  const place = await services.backend.execs.startExec(
    { execId, ...start, access: services.agents.access },
    { signal },
  );
  if (start.detach) {
    const { link } = await openExec(context, execId, start, place);
    link.pipeTo((_, written) => written()); // There should be no output.
    await link.ended;
    connection.replyEmpty();
    return undefined;
  }
  streaming.use(services.execEnds.streaming(execId));
  const multiplexed = !start.tty;
  prepareForStreaming(connection.socket);
  const socket = connection.accept(multiplexed);
  const refuse = async (reason: string): Promise<void> => {
    await connection.headerLead();
    socket.resume();
    socket.end(inBandText(`${reason}\r\n`, multiplexed, "stdout"));
  };
  if (place.refusal !== "") {
    await refuse(place.refusal);
    return undefined;
  }
  const exec = startedExec(execId, place);
  const processEnd = services.execEnds.of(exec, context);
  socket.once("close", () => {
    if (socket.errored instanceof TerminatorLost) {
      void processEnd.cut(); // Its client may take the reset for the stream's end, and asks for the exit code next.
    }
  });
  try {
    const { link, opened } = await openExec(context, execId, start, place);
    exec.pid = opened.kind === "session" ? BigInt(opened.pid) : 0n;
    return { exec, connection, socket, multiplexed, processEnd, link };
  } catch (error) {
    await settleFailedStart(context, execId, processEnd, error);
    await refuse(messageOf(signal.aborted ? signal.reason : error));
    return undefined;
  }
}

/** Ensures that an inspect shows the exit code of an exec that did not start, which its client asks for next. */
async function settleFailedStart(
  { logger }: HijackContext,
  execId: string,
  processEnd: ExecEnd,
  error: unknown,
): Promise<void> {
  if (error instanceof StreamError && error.exitCode !== 0) {
    await processEnd.exited(error.exitCode);
  } else {
    logger.warn({ err: error, exec: execId }, "an exec could not be opened");
    processEnd.unopened();
  }
}

/** An exec's inspect, without its process. */
function startedExec(id: string, { containerId, config }: StartExecResponse): InspectExecResponse {
  return create(InspectExecResponseSchema, {
    id,
    containerId,
    ...(config === undefined ? {} : { config: { ...config, env: [] } }), // An inspect does not show it.
    openStdin: config?.attachStdin ?? false,
    openStdout: config?.attachStdout ?? false,
    openStderr: config?.attachStderr ?? false,
  });
}

async function openExec(
  context: HijackContext,
  execId: string,
  start: ExecStart,
  place: StartExecResponse,
): Promise<OpenStream> {
  const { config, endpoint, additionalGroups } = place;
  if (config === undefined) {
    throw new Error("the backend answered the start of an exec without its configuration");
  }
  const attached = config.attachStdin || config.attachStdout || config.attachStderr;
  const detach = start.detach || !attached;
  const detachKeys = config.tty && config.attachStdin ? detachKeysOf(config.detachKeys) : new Uint8Array();
  const handed = { multiplexed: !start.tty, detachKeys };
  try {
    return await openStreamAt(
      { services: context.services, signal: endOfFrontend(context.signal) },
      endpoint,
      {
        operation: (isHanded) => ({
          ...{ kind: "session", carriesInput: config.attachStdin, detachKeys },
          open: encodeOpenExec(
            openExecOf(execId, config, additionalGroups, { detach, ...(isHanded && { handOver: handed }) }),
          ),
        }),
        framing: start.tty ? "raw" : "multiplexed",
        client: detach ? undefined : context.socket,
      },
    );
  } catch (error) {
    if (isErrorKind(error, "unavailable")) {
      await refuseEndedRun(context, execId, endpoint);
    }
    throw error;
  }
}

/** @throws the backend's refusal of an exec whose container run has ended, once that is known */
async function refuseEndedRun(
  { services, signal }: HijackContext,
  execId: string,
  endpoint: AgentEndpoint | undefined,
): Promise<void> {
  const access = { ...services.agents.access, failedGeneration: endpoint?.generation ?? 0n };
  await services.backend.execs.startExec({ execId, access }, { signal });
}

/** Aborts with a request, but not when its client leaves: a started exec continues, as in dockerd. */
function endOfFrontend(request: AbortSignal): AbortSignal {
  const end = new AbortController();
  onAbort(request, () => {
    if (request.reason instanceof SockerlessError) {
      end.abort(request.reason);
    }
  });
  return end.signal;
}
