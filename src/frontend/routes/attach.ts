/** `/containers/{id}/attach` and `/attach/ws`: the standard streams of a container's main process. */
import type { Duplex } from "node:stream";

import { SockerlessError } from "../../common/errors.ts";
import { StreamUse, WaitCondition } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { HijackedConnection } from "../hijack.ts";
import { flag, text } from "../http/query.ts";
import type { HijackContext } from "../request-context.ts";
import type { Route } from "../router.ts";
import { lostAttachment, openAttachment, refuseInBand } from "../streams/attach-stream.ts";
import { Attachment, type WantedStreams } from "../streams/attachment.ts";
import { prepareForStreaming } from "../streams/client-socket.ts";
import { detachKeysOf } from "../streams/detach-keys.ts";
import { onOutputLoss } from "../streams/lost-output.ts";
import type { AskedAttachment, OpenAttachment } from "../streams/open-attachments.ts";
import { StreamError, type StreamLink } from "../streams/stream-link.ts";
import { streamToClient } from "../streams/stream-to-client.ts";
import { recordStreamUse } from "../streams/stream-use.ts";
import { acceptWebSocket } from "../streams/web-socket.ts";

/** Milliseconds in which a container whose agent has died is known to have ended. */
const lossLimitMs = 5_000;

/** The endpoints of attaching. */
export const attachRoutes: readonly Route[] = [
  {
    method: "POST",
    path: "/containers/{id}/attach",
    kind: "stream",
    hijack: true,
    refusesInText: true,
    handler: postContainersAttach,
  },
  {
    method: "GET",
    path: "/containers/{id}/attach/ws",
    kind: "stream",
    hijack: true,
    handler: getContainersAttachWs,
  },
];

async function postContainersAttach(context: HijackContext): Promise<void> {
  const connection = new HijackedConnection(context);
  const detachKeys = detachKeysOf(text(context.query, "detachKeys"));
  const wanted = wantedStreams(context, false);
  const name = context.parameters["id"] ?? "";
  const attachment = await Attachment.reserve(context, name, wanted);
  const { tty, openStdin } = attachment.accepted;
  const multiplexed = !tty;
  const framing = multiplexed ? "multiplexed" : "raw";
  const farewell = lostAttachment("the frontend was lost", multiplexed);
  using attached = await begin(context, attachment, { wanted, client: connection.socket, farewell });
  const served = attached?.served;
  const request = { name, wanted, detachKeys, framing, client: connection.socket, served } as const;
  const opened = await openAtOnce(context, attachment, request);
  prepareForStreaming(connection.socket);
  const socket = connection.accept(multiplexed);
  // Until the container runs, only enough is read to detect a reset by the client. A client that had closed its
  // connection before gets no answer.
  socket.read(0);
  onOutputLoss(socket, () => attachment.cancel());
  const headerLead = () => connection.headerLead();
  const link = await openInBand({ socket, headerLead, attached }, opened, context, attachment, request);
  if (link !== undefined) {
    const stdin = wanted.stdin && openStdin;
    if (link.offer === undefined) {
      attached?.begun();
    }
    await streamToClient(context, socket, link, {
      stdin,
      multiplexed,
      headerLead,
      isReportedElsewhere: isStartFailure,
      onDetach: detached(context, attachment),
      onCut: () => tellLoss(context, attachment, name, attached),
    });
  }
}

async function getContainersAttachWs(context: HijackContext): Promise<void> {
  const detachKeys = detachKeysOf(text(context.query, "detachKeys"));
  // Before 1.42 all streams are attached, whatever the query says.
  const wanted = wantedStreams(context, context.version.before("1.42"));
  const name = context.parameters["id"] ?? "";
  const attachment = await Attachment.reserve(context, name, wanted);
  // A connection without its closing handshake says enough to its client: no farewell.
  using attached = await begin(context, attachment, { wanted, client: context.socket });
  const request = { name, wanted, detachKeys, framing: "raw", served: attached?.served } as const;
  const opened = await openAtOnce(context, attachment, request);
  const stream = await acceptWebSocket(context).catch((error: unknown) => {
    opened?.link?.cancel();
    throw error;
  });
  const link = await openInBand({ socket: stream, attached }, opened, context, attachment, request);
  if (link !== undefined) {
    const stdin = wanted.stdin && attachment.accepted.openStdin;
    const onDetach = detached(context, attachment);
    await streamToClient(context, stream, link, {
      stdin,
      multiplexed: false,
      isReportedElsewhere: isStartFailure,
      onDetach,
      onCut: () => tellLoss(context, attachment, name, attached),
    });
  }
}

/** Registers an attachment that follows the process; on one that only replays no wait depends. */
async function begin(
  { services }: HijackContext,
  { accepted }: Attachment,
  { wanted, ...asked }: Omit<AskedAttachment, "id"> & { readonly wanted: WantedStreams },
): Promise<OpenAttachment | undefined> {
  return wanted.stream ? await services.openAttachments.begin({ ...asked, id: accepted.id }) : undefined;
}

const detached =
  (context: HijackContext, { accepted }: Attachment) =>
  () =>
    recordStreamUse(context, accepted.id, StreamUse.DETACHED);

/** The container to attach to, and the streams. */
type Opening = Parameters<typeof openAttachment>;

/**
 * Opens the stream of a running container before its client is answered, so that the client misses nothing from then
 * on. The stream of any other container opens behind the answer.
 *
 * @returns undefined if the stream still has to be opened
 * @throws StreamError or ConnectError
 */
async function openAtOnce(...opening: Opening): Promise<OpenedAtOnce | undefined> {
  const [, { accepted }] = opening;
  return accepted.running ? { link: await openAttachment(...opening) } : undefined;
}

/** The stream, if there is one. */
interface OpenedAtOnce {
  readonly link: StreamLink | undefined;
}

/** A client that has been answered. */
interface AnsweredClient {
  readonly socket: Duplex;
  /** Resolves once output may follow the answer's header. */
  readonly headerLead?: () => Promise<void>;
  readonly attached?: OpenAttachment | undefined;
}

/** Runs the stream of a client that has been answered; without a stream, closes its connection. */
async function openInBand(
  { socket, headerLead, attached }: AnsweredClient,
  opened: OpenedAtOnce | undefined,
  ...opening: Opening
): Promise<StreamLink | undefined> {
  const [context, attachment, { name, framing }] = opening;
  try {
    const link = opened === undefined ? await openAttachment(...opening) : opened.link;
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
    if (!hasLeft(context)) {
      loseOutput(context, attachment, name, attached);
    }
    await headerLead?.();
    refuseInBand(context, socket, error, framing === "multiplexed");
    return undefined;
  }
}

/**
 * Makes the client's wait report the lost output: the wait ends with the reason if the container has ended with one,
 * and breaks otherwise.
 *
 * @returns true if the wait gives the reason
 */
async function tellLoss(
  context: HijackContext,
  attachment: Attachment,
  name: string,
  attached: OpenAttachment | undefined,
): Promise<boolean> {
  const isTold = await endsInError(context, attachment.accepted.id);
  if (!isTold) {
    loseOutput(context, attachment, name, attached);
  }
  return isTold;
}

/** Whether a container has ended with an error (its agent died), or does so within 5 s. */
async function endsInError({ services, signal }: HijackContext, container: string): Promise<boolean> {
  const inTime = AbortSignal.any([signal, AbortSignal.timeout(lossLimitMs)]);
  try {
    const messages = services.backend.containers.waitContainer(
      { container, condition: WaitCondition.NOT_RUNNING },
      { signal: inTime },
    );
    for await (const { message } of messages) {
      if (message.case === "exited") {
        return message.value.error !== "";
      }
    }
  } catch {
    // Nobody can know.
  }
  return false;
}

/** Breaks the client's waits, and lets no start be repeated whose output nobody would get. */
function loseOutput(
  { services }: Pick<HijackContext, "services">,
  { accepted }: Attachment,
  name: string,
  attached: OpenAttachment | undefined,
): void {
  services.pendingStarts.loseOutput(accepted.id, name);
  attached?.lost();
}

/** True if the client has left by itself. */
function hasLeft({ signal }: Pick<HijackContext, "signal">): boolean {
  return signal.aborted && !(signal.reason instanceof SockerlessError);
}

/** True if the container's start failed, which the client that requested the start is told. */
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
