/**
 * The client's side of a hijacked request: its body, the answer's header, and then a raw connection. Whether the client
 * asked for an upgrade (101) or not (200), nothing behind the request's header has been parsed.
 */
import type { Duplex } from "node:stream";

import { checkJsonContentType, maxJsonBodyBytes, parseJsonBody } from "./json-body.ts";
import { readRawBody } from "./raw-body.ts";
import type { HijackContext } from "./request-context.ts";
import { keepReadingWithoutOutput } from "./streams/lost-output.ts";

/** A terminal's bytes, and what every version before 1.42 said. */
const rawStream = "application/vnd.docker.raw-stream";
/** Frames with Docker's headers. */
const multiplexedStream = "application/vnd.docker.multiplexed-stream";

/** The content type of a stream, which only newer versions tell apart. */
export function streamContentType({ version }: Pick<HijackContext, "version">, multiplexed: boolean): string {
  return multiplexed && version.atLeast("1.42") ? multiplexedStream : rawStream;
}

/** The connection of one hijacked request. */
export class HijackedConnection {
  readonly #context: HijackContext;
  /** Paused until somebody listens to it. */
  readonly socket: Duplex;

  constructor(context: HijackContext) {
    this.#context = context;
    this.socket = context.socket;
    this.socket.pause();
    if (context.head.length > 0) {
      this.socket.unshift(context.head);
    }
  }

  /**
   * Reads the whole body as JSON. What the client sends after it stays unread.
   *
   * @returns undefined for an empty body
   * @throws SockerlessError of kind `invalid`
   */
  async readJson(): Promise<unknown> {
    const { request } = this.#context;
    checkJsonContentType(request);
    const bytes = await this.#readBody();
    return parseJsonBody(bytes, { optional: true });
  }

  /** Reads the body and forgets it: of attach it means nothing, but it is not stdin. */
  async skipBody(): Promise<void> {
    await this.#readBody();
  }

  async #readBody(): Promise<Buffer> {
    const { headers, httpVersion } = this.#context.request;
    // Node would say so of a request that it parses; of this one it does not.
    if (httpVersion !== "1.0" && headers.expect?.toLowerCase() === "100-continue") {
      this.socket.write("HTTP/1.1 100 Continue\r\n\r\n");
    }
    return await readRawBody(this.socket, headers, maxJsonBodyBytes);
  }

  /**
   * Answers that the stream begins: 101 where the client asked for an upgrade, else 200. From here on errors travel in
   * the stream.
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
    return this.socket;
  }

  /** Answers 200 without a body, where there is no stream after all. */
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
