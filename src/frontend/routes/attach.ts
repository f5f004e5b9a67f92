/** `/containers/{id}/attach` and `/attach/ws`: the standard streams of a container's main process. */
import { StreamUse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { HijackedConnection } from "../hijack.ts";
import { flag, text } from "../query.ts";
import type { HijackContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";
import { openAttachment, refuseInBand } from "../streams/attach-stream.ts";
import { Attachment, type WantedStreams } from "../streams/attachment.ts";
import { prepareForStreaming } from "../streams/client-socket.ts";
import { detachKeysOf } from "../streams/detach-keys.ts";
import { StreamError, type StreamLink } from "../streams/stream-link.ts";
import { streamToClient } from "../streams/stream-to-client.ts";
import { recordStreamUse } from "../streams/stream-use.ts";
import { acceptWebSocket } from "../streams/web-socket.ts";

/** The endpoints of attaching. */
export const attachRoutes: readonly Route[] = [
  {
    method: "POST",
    path: "/containers/{id}/attach",
    answeredBy: builtBackends,
    hijack: true,
    handler: attach,
  },
  {
    method: "GET",
    path: "/containers/{id}/attach/ws",
    answeredBy: builtBackends,
    hijack: true,
    handler: attachWebSocket,
  },
];

async function attach(context: HijackContext): Promise<void> {
  const connection = new HijackedConnection(context);
  const detachKeys = detachKeysOf(text(context.query, "detachKeys"));
  await connection.skipBody();
  const wanted = wantedStreams(context, false);
  const attachment = await Attachment.reserve(context, context.parameters["id"] ?? "", wanted);
  const { tty, openStdin } = attachment.accepted;
  const multiplexed = !tty;
  prepareForStreaming(connection.socket);
  const socket = connection.accept(multiplexed);
  // Until the container runs nothing is read but as much as tells that a client reset the connection.
  socket.read(0);
  const link = await openInBand(context, socket, attachment, {
    wanted,
    detachKeys,
    framing: multiplexed ? "multiplexed" : "raw",
  });
  if (link !== undefined) {
    const stdin = wanted.stdin && openStdin;
    await streamToClient(context, socket, link, {
      stdin,
      multiplexed,
      isToldElsewhere: isStartFailure,
      onDetach: detached(context, attachment),
    });
  }
}

async function attachWebSocket(context: HijackContext): Promise<void> {
  const detachKeys = detachKeysOf(text(context.query, "detachKeys"));
  // Before 1.42 all streams are attached, whatever the query says.
  const wanted = wantedStreams(context, context.version.before("1.42"));
  const attachment = await Attachment.reserve(context, context.parameters["id"] ?? "", wanted);
  const stream = await acceptWebSocket(context);
  const link = await openInBand(context, stream, attachment, { wanted, detachKeys, framing: "raw" });
  if (link !== undefined) {
    const stdin = wanted.stdin && attachment.accepted.openStdin;
    const onDetach = detached(context, attachment);
    await streamToClient(context, stream, link, {
      stdin,
      multiplexed: false,
      isToldElsewhere: isStartFailure,
      onDetach,
    });
  }
}

const detached =
  (context: HijackContext, { accepted }: Attachment) =>
  () =>
    recordStreamUse(context, accepted.id, StreamUse.DETACHED);

/** Opens the stream of a client that was answered already; without a stream its connection is closed. */
async function openInBand(
  context: HijackContext,
  socket: Parameters<typeof refuseInBand>[1],
  attachment: Attachment,
  request: Parameters<typeof openAttachment>[2],
): Promise<StreamLink | undefined> {
  try {
    const link = await openAttachment(context, attachment, request);
    if (link === undefined) {
      socket.resume();
      socket.end();
    }
    return link;
  } catch (error) {
    if (isStartFailure(error)) {
      socket.end();
      return undefined;
    }
    refuseInBand(context, socket, error, request.framing === "multiplexed");
    return undefined;
  }
}

/** The container did not start, which whoever started it is told. */
function isStartFailure(error: unknown): boolean {
  return error instanceof StreamError && error.kind === "invalid";
}

function wantedStreams({ query }: HijackContext, all: boolean): WantedStreams {
  return {
    stdin: all || flag(query, "stdin"),
    stdout: all || flag(query, "stdout"),
    stderr: all || flag(query, "stderr"),
    logs: flag(query, "logs"),
    stream: flag(query, "stream"),
  };
}
