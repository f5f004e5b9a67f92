/** `/containers/{id}/exec` and `/exec/…`: processes that are started in running containers. */
import { create } from "@bufbuild/protobuf";

import { encodeOpenExec } from "../../agent-client/session.ts";
import { conflict, isErrorKind } from "../../common/errors.ts";
import { StreamUse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import {
  type InspectExecResponse,
  InspectExecResponseSchema,
  type StartExecResponse,
} from "../../gen/sockerless/backend/v1/exec_pb.ts";
import {
  type ExecStart,
  execConfigFromJson,
  execStartFromJson,
  execToJson,
  openExecOf,
} from "../convert/exec.ts";
import { HijackedConnection } from "../hijack.ts";
import { readJsonBody } from "../json-body.ts";
import { terminalSize } from "../query.ts";
import { replyEmpty, replyJson } from "../reply.ts";
import type { HijackContext, ReplyContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";
import { isContainerUp } from "../streams/attachment.ts";
import { inBandText, prepareForStreaming } from "../streams/client-socket.ts";
import { detachKeysOf } from "../streams/detach-keys.ts";
import { type OpenStream, openStreamAt } from "../streams/open-stream.ts";
import { StreamError } from "../streams/stream-link.ts";
import { unknownExitCode } from "../streams/told-ends.ts";
import { streamToClient } from "../streams/stream-to-client.ts";
import { recordStreamUse } from "../streams/stream-use.ts";

/** The endpoints of execs. */
export const execRoutes: readonly Route[] = [
  {
    method: "POST",
    path: "/containers/{id}/exec",
    answeredBy: builtBackends,
    handler: createExec,
  },
  {
    method: "POST",
    path: "/exec/{id}/start",
    answeredBy: builtBackends,
    hijack: true,
    handler: startExec,
  },
  {
    method: "POST",
    path: "/exec/{id}/resize",
    answeredBy: builtBackends,
    handler: resizeExec,
  },
  {
    method: "GET",
    path: "/exec/{id}/json",
    answeredBy: builtBackends,
    handler: inspectExec,
  },
];

async function createExec(context: ReplyContext): Promise<void> {
  const { request, response, version, services, signal, parameters } = context;
  const config = execConfigFromJson(await readJsonBody(request), version);
  const { id } = await services.backend.execs.createExec(
    { container: parameters["id"] ?? "", config },
    { signal },
  );
  replyJson(response, 201, { Id: id });
}

async function inspectExec({ response, services, signal, parameters }: ReplyContext): Promise<void> {
  const execId = parameters["id"] ?? "";
  const told = services.toldEnds.find(execId);
  try {
    const exec = await services.backend.execs.inspectExec({ execId }, { signal });
    // Whose output was cut off is no success, whatever became of the process.
    const exitCode = (exec.exitCode || told?.exitCode) ?? exec.exitCode;
    replyJson(response, 200, execToJson(exitCode === undefined ? exec : { ...exec, exitCode }));
  } catch (error) {
    // Its container was removed under it, and took the record along before the client could ask.
    if (told === undefined || !isErrorKind(error, "not-found")) {
      throw error;
    }
    replyJson(response, 200, execToJson(told));
  }
}

async function resizeExec(context: ReplyContext): Promise<void> {
  const { response, services, signal, parameters, query } = context;
  const height = terminalSize(query, "h", "height");
  const width = terminalSize(query, "w", "width");
  await services.backend.execs.resizeExec({ execId: parameters["id"] ?? "", height, width }, { signal });
  replyEmpty(response, 200);
}

async function startExec(context: HijackContext): Promise<void> {
  const { services, signal, parameters, version } = context;
  const connection = new HijackedConnection(context);
  const start = execStartFromJson(await connection.readJson(), version);
  const execId = parameters["id"] ?? "";
  const place = await services.backend.execs.startExec(
    { execId, ...start, access: services.agents.access },
    { signal },
  );
  if (start.detach) {
    const { link } = await openExec(context, execId, start, place);
    link.pipeTo((_, written) => written()); // There should be none.
    await link.ended;
    connection.replyEmpty();
    return;
  }
  const multiplexed = !start.tty;
  let stream: OpenStream;
  try {
    stream = await openExec(context, execId, start, place);
  } catch (error) {
    if (!(error instanceof StreamError) || error.exitCode === 0) {
      throw error;
    }
    // dockerd finds out only after its 101, so its clients look for the reason in the stream and for 126 or 127 in an
    // inspect, which has to know by then.
    await services.backend.execs.awaitExec({ execId }, { signal });
    const socket = connection.accept(multiplexed);
    socket.resume();
    socket.end(inBandText(`${error.message}\r\n`, multiplexed, "stdout"));
    return;
  }
  prepareForStreaming(connection.socket);
  const socket = connection.accept(multiplexed);
  await streamToClient(context, socket, stream.link, {
    stdin: place.config?.attachStdin === true,
    multiplexed,
    onDetach: () => recordStreamUse(context, place.containerId, StreamUse.DETACHED, execId),
    // The client asks for the exit code as soon as it sees the end of the stream.
    beforeEnd: async (within) => {
      await services.backend.execs.awaitExec({ execId }, { signal: within });
    },
    onUnknownEnd: (exitCode = unknownExitCode) =>
      services.toldEnds.remember(endedExec(execId, place, exitCode)),
  });
}

function endedExec(
  id: string,
  { containerId, config }: StartExecResponse,
  exitCode: number,
): InspectExecResponse {
  return create(InspectExecResponseSchema, {
    id,
    containerId,
    exitCode,
    ...(config === undefined ? {} : { config: { ...config, env: [] } }), // No inspect tells it.
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
  const { config, endpoint, containerId } = place;
  if (config === undefined) {
    throw new Error("the backend answered the start of an exec without its configuration");
  }
  const attached = config.attachStdin || config.attachStdout || config.attachStderr;
  const open = encodeOpenExec(openExecOf(execId, config, start.detach || !attached));
  const detachKeys = config.tty && config.attachStdin ? detachKeysOf(config.detachKeys) : new Uint8Array();
  try {
    return await openStreamAt(
      context,
      endpoint,
      { kind: "session", open, carriesInput: config.attachStdin, detachKeys },
      start.tty ? "raw" : "multiplexed",
    );
  } catch (error) {
    if (isErrorKind(error, "unavailable") && !(await isContainerUp(context, containerId))) {
      throw conflict(`container ${containerId} is not running`, error);
    }
    throw error;
  }
}
