/** The stream of an attachment, which may begin long after its client was answered. */
import type { Duplex } from "node:stream";

import { encodeLogsRequest } from "../../agent-client/logs.ts";
import { encodeOpenAttach } from "../../agent-client/session.ts";
import { isErrorKind, messageOf } from "../../common/errors.ts";
import { pauseAfter } from "../../common/pauses.ts";
import { LogForm } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { RequestContext } from "../request-context.ts";
import { Attachment, isContainerUp, type WantedStreams } from "./attachment.ts";
import { abortClient, inBandText } from "./client-socket.ts";
import { openStream, openStreamAt } from "./open-stream.ts";
import type { StreamLink } from "./stream-link.ts";
import type { Framing, StreamOperation } from "./thread-messages.ts";

/** Maximum retries of an attachment that its agent refused while the container runs. */
const maxAttempts = 4;

/** Pauses between attempts to reach the agent of a start, which waits 15 s for the attachment. */
const pauses = { firstMs: 250, longestMs: 2_000 };

type AttachContext = Pick<RequestContext, "services" | "signal" | "logger">;

/** An attachment's settings, once the backend has taken it. */
export interface AttachRequest {
  /** The container's name in the client's request. */
  readonly name: string;
  readonly wanted: WantedStreams;
  readonly detachKeys: Uint8Array;
  readonly framing: Framing;
  /** The client's connection, if it may be handed over. */
  readonly client?: Duplex;
  /** Called once the container's agent is known. */
  readonly served?: (() => void) | undefined;
}

/**
 * Opens the stream of an attachment as soon as the container runs.
 *
 * @returns undefined if there will be none: the container is gone, has ended, or no stream was requested
 * @throws StreamError or ConnectError
 */
export async function openAttachment(
  context: AttachContext,
  attachment: Attachment,
  request: AttachRequest,
): Promise<StreamLink | undefined> {
  const { wanted, framing, client } = request;
  if (!wanted.stream) {
    attachment.cancel();
    return wanted.logs ? await openRecorded(context, attachment.accepted.id, wanted, framing) : undefined;
  }
  const { id, tty, openStdin } = attachment.accepted;
  const { clock, pendingStarts } = context.services;
  const operationOf = operationsOf(request, { tty, stdin: wanted.stdin && openStdin });
  let isReserved = !attachment.accepted.running;
  let failures = 0;
  let place = await attachment.endpoint();
  if (place !== undefined) {
    request.served?.();
  }
  for (let attempt = 1; place !== undefined; ) {
    const operation = operationOf(place.attachId);
    try {
      return (await openStreamAt(context, place.endpoint, { operation, framing, client })).link;
    } catch (error) {
      const left = isErrorKind(error, "unavailable") || isErrorKind(error, "conflict");
      if (!left || context.signal.aborted) {
        throw error;
      }
      if (isReserved && isErrorKind(error, "unavailable")) {
        // The start waits for this attachment at that agent; without it the first output is lost.
        if (!pendingStarts.isPending(id, request.name)) {
          throw error;
        }
        failures += 1;
        await clock.sleep(pauseAfter(failures, pauses), context.signal);
        continue;
      }
      // The process ended between the backend's answer and our call: the stream is at its end, not in error.
      if (!(await isContainerUp(context, id))) {
        return undefined;
      }
      if (attempt === maxAttempts) {
        throw error;
      }
      attempt += 1;
    }
    const again = await Attachment.reserve(context, id, wanted);
    if (!again.accepted.running) {
      again.cancel(); // It has ended since, and the client did not attach to its next run.
      return undefined;
    }
    isReserved = false;
    place = await again.endpoint();
  }
  return undefined;
}

/** Requests to an agent for an attachment, by the attachment's ID, with or without the client's connection. */
function operationsOf(
  { wanted, framing, detachKeys: givenKeys }: AttachRequest,
  { tty, stdin }: { readonly tty: boolean; readonly stdin: boolean },
): (attachId: string) => (isHanded: boolean) => StreamOperation {
  const detachKeys = tty && stdin ? givenKeys : new Uint8Array();
  const { stdout, stderr, logs: replayLog } = wanted;
  const open = { stdin, stdout, stderr, replayLog, stream: true };
  const handOver = { multiplexed: framing === "multiplexed", detachKeys };
  return (attachId) => (isHanded) => ({
    ...{ kind: "session", carriesInput: stdin, detachKeys },
    open: encodeOpenAttach({ ...open, attachId, ...(isHanded && { handOver }) }),
  });
}

/** Opens the recorded output without waiting for more: the container's log. */
async function openRecorded(
  context: AttachContext,
  container: string,
  { stdout, stderr }: WantedStreams,
  framing: Framing,
): Promise<StreamLink> {
  const form = framing === "multiplexed" ? LogForm.FRAMES : LogForm.LINES;
  const request = encodeLogsRequest({ stdout, stderr, form });
  const { link } = await openStream(
    context,
    (access) =>
      context.services.backend.containers.openLogs({ container, access }, { signal: context.signal }),
    () => ({ operation: () => ({ kind: "logs", request }), framing }),
  );
  return link;
}

/** The error text to a client whose stream cannot be opened; a client that reads frames reports it as an error. */
export function lostAttachment(reason: string, multiplexed: boolean): Buffer {
  return inBandText(`Error attaching: ${reason}\r\n`, multiplexed, "systemError");
}

/** Reports to a client that its stream could not be opened, after its answer has begun. */
export function refuseInBand(
  { signal, logger }: AttachContext,
  socket: Duplex,
  error: unknown,
  multiplexed: boolean,
): void {
  if (!socket.destroyed) {
    logger.warn({ err: error }, "an attachment failed");
    const reason = messageOf(signal.aborted ? signal.reason : error);
    abortClient(socket, lostAttachment(reason, multiplexed));
  }
}
