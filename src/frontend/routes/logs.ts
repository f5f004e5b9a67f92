/** `/containers/{id}/logs`: what a container wrote. */
import { once } from "node:events";

import { encodeLogsRequest } from "../../agent-client/logs.ts";
import { messageOf } from "../../common/errors.ts";
import { LogForm } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { OpenLogsResponse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { detailsPrefix, logExtentOf, logsQueryOf } from "../convert/logs.ts";
import { streamContentType } from "../hijack.ts";
import type { ReplyContext, RequestContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";
import { type HeldCall, isHeldLog } from "../streams/hand-over.ts";
import { inBandText, type OutputPiece, outputOf } from "../streams/client-socket.ts";
import { type Access, atAgent, openStreamAt } from "../streams/open-stream.ts";
import { sayLast, streamToResponse } from "../streams/stream-to-response.ts";

/** Bytes of few lines that are held, at most. */
const maxHeldLines = 65_536;

/** The endpoint of logs. */
export const logsRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/containers/{id}/logs",
    answeredBy: builtBackends,
    held: {
      takes: ({ query }) => isHeldLog(logExtentOf(query)),
      call: heldLog,
      contentType: (asked, call) => streamContentType(asked, call.kind === "log" && call.frames),
    },
    handler: getContainersLogs,
  },
];

async function getContainersLogs(context: ReplyContext): Promise<void> {
  const { query, parameters, response, services } = context;
  const { request, details } = logsQueryOf(query);
  const isShort = !isHeldLog(request);
  const held = isShort ? services.held.lines.get(questionOf(context)) : undefined;
  if (held !== undefined) {
    response.writeHead(200, { "Content-Type": held.contentType }).end(held.body);
    return;
  }
  let attempts = 0;
  const { link, place, cut } = await atAgent(
    context,
    (access) => openLogs(context, parameters["id"] ?? "", access),
    async (found) => {
      const encoded = encodeLogsRequest(requestFor(found, request, details));
      attempts += 1;
      // An agent need not know HTTP/1.1.
      if (isShort && attempts === 1 && found.endpoint?.address.case === "unixPath") {
        return { place: found, cut: await answerShortly(context, found, encoded) };
      }
      const opened = await openStreamAt(
        context,
        found.endpoint,
        { kind: "logs", request: encoded, isShort },
        found.tty ? "raw" : "multiplexed",
      );
      return { place: found, link: opened.link };
    },
  );
  const lastWords = (error: unknown): Buffer =>
    inBandText(`Error grabbing logs: ${messageOf(error)}\n`, !place.tty, "systemError");
  if (cut !== undefined) {
    await sayLast(response, lastWords(cut.error));
    throw cut.error;
  }
  if (link !== undefined) {
    response.writeHead(200, { "Content-Type": streamContentType(context, !place.tty) });
    // A log that is followed may stay silent for hours; the client must know that it is served.
    response.flushHeaders();
    await streamToResponse(context, link, lastWords);
  }
}

/**
 * Answers with a few lines of an agent on this machine.
 *
 * @returns undefined, or why the log is cut, where the answer had begun
 * @throws ConnectError before anything is written
 */
async function answerShortly(
  context: ReplyContext,
  place: OpenLogsResponse,
  encoded: Uint8Array,
): Promise<{ readonly error: unknown } | undefined> {
  const { response, services, signal } = context;
  const { endpoint, tty } = place;
  const socket = endpoint?.address.case === "unixPath" ? endpoint.address.value : "";
  const contentType = streamContentType(context, !tty);
  const lines = new AnsweredLines();
  let pieces: OutputPiece[] = [];
  const receiver = {
    data(channel: number, source: Uint8Array, from: number, to: number) {
      pieces.push({ channel, bytes: Buffer.from(source.subarray(from, to)) });
    },
    async flush() {
      if (!response.headersSent) {
        response.writeHead(200, { "Content-Type": contentType });
      }
      corkForNow(response);
      const output = outputOf(pieces, !tty);
      lines.add(output);
      const hasRoom = pieces.length === 0 || response.write(output);
      pieces = [];
      if (!hasRoom) {
        await once(response, "drain", { signal });
      }
    },
  };
  try {
    const log = { socket, containerId: endpoint?.containerId ?? "", request: encoded };
    await services.shortLogs.read(log, receiver, signal);
  } catch (error) {
    if (response.headersSent) {
      return { error };
    }
    throw error;
  }
  response.end();
  // The agent of a container that does not run answers only while nobody writes the log. A start changes the
  // backend's generation before it begins.
  const body = endpoint?.generation === 0n ? lines.body : undefined;
  if (body !== undefined) {
    services.held.lines.hold(questionOf(context), place.generation, { contentType, body });
  }
  return undefined;
}

/** Collects an answer as long as it is short. */
class AnsweredLines {
  readonly #parts: Buffer[] = [];
  #size = 0;

  add(output: Buffer): void {
    this.#size += output.length;
    if (this.#size <= maxHeldLines) {
      this.#parts.push(output);
    }
  }

  /** Undefined: it is too much to be held. In memory of its own: a slice of Node's pool would keep all of that. */
  get body(): Buffer | undefined {
    if (this.#size > maxHeldLines) {
      return undefined;
    }
    const body = Buffer.allocUnsafeSlow(this.#size);
    let end = 0;
    for (const part of this.#parts) {
      end += part.copy(body, end);
    }
    return body;
  }
}

/** A request for lines, by all that its answer depends on. */
function questionOf({ query, parameters, version }: ReplyContext): string {
  return `${version.text} ${parameters["id"] ?? ""} ${query.toString()}`;
}

/**
 * Has what is written of a response in this turn of the event loop go out at once, with its end where that comes. By its
 * socket: a corked response of Node 24.9 is sent in disorder with its end, and never tells that it has room again.
 */
function corkForNow({ socket }: ReplyContext["response"]): void {
  if (socket === null || socket.writableCorked > 0) {
    return;
  }
  socket.cork();
  setImmediate(() => socket.uncork());
}

/** A log that the helper has read, at an agent on this machine. */
async function heldLog(context: RequestContext): Promise<HeldCall | undefined> {
  const { request, details } = logsQueryOf(context.query);
  const place = await openLogs(context, context.parameters["id"] ?? "", context.services.agents.access);
  const { endpoint, tty } = place;
  if (endpoint?.address.case !== "unixPath") {
    return undefined;
  }
  return {
    kind: "log",
    socket: endpoint.address.value,
    containerId: endpoint.containerId,
    request: encodeLogsRequest({ ...requestFor(place, request, details), handOver: request.follow !== true }),
    frames: !tty,
  };
}

/** The agent's request for a log at a place. */
function requestFor(
  { tty, details: shown }: OpenLogsResponse,
  request: ReturnType<typeof logsQueryOf>["request"],
  details: boolean,
) {
  const form = tty ? LogForm.LINES : LogForm.FRAMES;
  return { ...request, linePrefix: details ? detailsPrefix(shown) : "", form };
}

/** The place of a container's log, without a call where that is known. */
async function openLogs(
  { services: { backend, held }, signal }: RequestContext,
  container: string,
  access: Access,
): Promise<OpenLogsResponse> {
  // After a failure another place is asked for.
  const known = access.failedGeneration === undefined ? held.logs.get(container) : undefined;
  if (known !== undefined) {
    return known;
  }
  const place = await backend.containers.openLogs({ container, access }, { signal });
  held.logs.hold(container, place.generation, place);
  return place;
}
