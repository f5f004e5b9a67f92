/**
 * The client's side of a hijacked request: its body, the answer's header, and then a raw connection. Nothing after the
 * request's header has been parsed, whether the client asked for an upgrade (101) or not (200).
 */
import { availableParallelism, loadavg } from "node:os";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

import { checkJsonContentType, parseJsonBody, smallBodyBytes } from "./http/json-body.ts";
import { readRawBody } from "./http/raw-body.ts";
import type { HijackContext } from "./request-context.ts";
import { keepReadingWithoutOutput } from "./streams/lost-output.ts";

/** Content type of a terminal's bytes, of every stream before 1.42, and of refusals to attach. */
export const rawStream = "application/vnd.docker.raw-stream";
/** Content type of frames with Docker's headers. */
const multiplexedStream = "application/vnd.docker.multiplexed-stream";

/** The content type of a stream; only newer API versions distinguish the two. */
export function streamContentType({ version }: Pick<HijackContext, "version">, multiplexed: boolean): string {
  return multiplexed && version.atLeast("1.42") ? multiplexedStream : rawStream;
}

/**
 * Minimum milliseconds between the header and the first output, if nothing shows that the header was read. Clients in
 * Python and Java read the header through a buffer and drop what came with it; dockerd takes that long to start a
 * process. On an overloaded machine the client may be scheduled late.
 */
const headerLeadMs = { idle: 10, busy: 30 } as const;

function isMachineBusy(): boolean {
  const [load = 0] = loadavg();
  return load > availableParallelism();
}

/**
 * Reads the body of a request to hijack, which is small. What its client sends after it stays in the socket.
 *
 * @throws SockerlessError of kind `invalid`
 */
export async function readHijackedBody(
  { headers, httpVersion }: IncomingMessage,
  socket: Duplex,
): Promise<Buffer> {
  // Node sends this itself only for requests that it parses.
  if (httpVersion !== "1.0" && headers.expect?.toLowerCase() === "100-continue") {
    socket.write("HTTP/1.1 100 Continue\r\n\r\n");
  }
  return await readRawBody(socket, headers, smallBodyBytes);
}

/** The connection of one hijacked request. */
export class HijackedConnection {
  readonly #context: HijackContext;
  /** Paused until it has a listener. */
  readonly socket: Duplex;
  #acceptedAt = 0;
  #headerLead: Promise<void> | undefined;

  constructor(context: HijackContext) {
    this.#context = context;
    this.socket = context.socket;
    this.socket.pause();
  }

  /**
   * The body as JSON.
   *
   * @returns undefined for an empty body
   * @throws SockerlessError of kind `invalid`
   */
  readJson(): unknown {
    checkJsonContentType(this.#context.request);
    return parseJsonBody(this.#context.body, { optional: true });
  }

  /**
   * Writes the answer's header: 101 if the client asked for an upgrade, else 200. From here on errors travel in the
   * stream, which has to wait for {@link headerLead}.
   *
   * @param multiplexed whether output has Docker's frame headers
   */
  accept(multiplexed: boolean): Duplex {
    const { request } = this.#context;
    this.#context.takeOver();
    keepReadingWithoutOutput(this.socket);
    const lines =
      request.headers.upgrade === undefined
        ? ["HTTP/1.1 200 OK", `Content-Type: ${rawStream}`]
        : [
            "HTTP/1.1 101 UPGRADED",
            `Content-Type: ${streamContentType(this.#context, multiplexed)}`,
            "Connection: Upgrade",
            "Upgrade: tcp",
          ];
    this.socket.write(this.#head(lines));
    this.#acceptedAt = performance.now();
    return this.socket;
  }

  /**
   * Resolves once the client has read the header by itself, or has had time to. An agent that takes the connection does
   * this itself.
   */
  headerLead(): Promise<void> {
    this.#headerLead ??= this.#untilRead();
    return this.#headerLead;
  }

  async #untilRead(): Promise<void> {
    if ((await this.#context.services.handOver?.isRead(this.socket)) !== true) {
      const leadMs = headerLeadMs[isMachineBusy() ? "busy" : "idle"];
      await sleep(Math.max(0, this.#acceptedAt + leadMs - performance.now()));
    }
  }

  /** Answers 200 without a body, if there is no stream after all. */
  replyEmpty(): void {
    this.#context.takeOver();
    this.socket.resume();
    this.socket.end(this.#head(["HTTP/1.1 200 OK", "Content-Length: 0", "Connection: close"]));
  }

  #head(lines: readonly string[]): string {
    const standing = Object.entries(this.#context.headers).map(([name, value]) => `${name}: ${value}`);
    return `${[...lines, ...standing].join("\r\n")}\r\n\r\n`;
  }
}
