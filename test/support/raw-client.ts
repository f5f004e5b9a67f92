/** A Docker client that speaks HTTP by hand, so that a test decides which bytes are in which packet. */
import { connect, type Socket } from "node:net";

import { until } from "./until.ts";

/** A connection, and all that came on it. */
export class RawClient {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  ended = false;
  closed = false;

  constructor(path: string) {
    this.socket = connect({ path, allowHalfOpen: true });
    this.socket.on("data", (chunk: Buffer) => this.#chunks.push(chunk));
    this.socket.on("end", () => {
      this.ended = true;
    });
    this.socket.on("close", () => {
      this.closed = true;
    });
    this.socket.on("error", () => {});
  }

  /** Everything so far. */
  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** The answer's header, without the empty line. */
  get header(): string {
    return this.bytes.toString("latin1").split("\r\n\r\n", 1)[0] ?? "";
  }

  /** Bytes behind the answer's header. */
  get body(): Buffer {
    const end = this.bytes.indexOf("\r\n\r\n");
    return end < 0 ? Buffer.alloc(0) : this.bytes.subarray(end + 4);
  }

  /** Bytes behind the header but those of the same read: all that a client which drops its buffer has. */
  get laterBody(): Buffer {
    for (let reads = 1; reads <= this.#chunks.length; reads++) {
      if (Buffer.concat(this.#chunks.slice(0, reads)).includes("\r\n\r\n")) {
        return Buffer.concat(this.#chunks.slice(reads));
      }
    }
    return Buffer.alloc(0);
  }

  /** Writes text as one packet. */
  send(text: string | Uint8Array): this {
    this.socket.write(text);
    return this;
  }

  /** Until the answer's header is there. */
  async answered(): Promise<string> {
    await until(() => this.bytes.includes("\r\n\r\n") || this.ended || undefined);
    return this.header;
  }

  /** Until this text came after the header. */
  async says(text: string): Promise<void> {
    await until(() => this.body.includes(text) || undefined);
  }

  /** Until the server ended the connection. */
  async end(): Promise<void> {
    await until(() => this.ended || this.closed || undefined);
  }

  close(): void {
    this.socket.destroy();
  }
}

/** The header of a request that hijacks. */
export function hijackRequest(
  path: string,
  options: { readonly body?: string; readonly upgrade?: boolean; readonly chunked?: boolean } = {},
): string {
  const { body = "", upgrade = true, chunked = false } = options;
  return [
    `POST ${path} HTTP/1.1`,
    "Host: docker",
    ...(body === "" ? [] : ["Content-Type: application/json"]),
    ...(upgrade ? ["Connection: Upgrade", "Upgrade: tcp"] : []),
    chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${Buffer.byteLength(body)}`,
    "",
    chunked ? `${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n0\r\n\r\n` : body,
  ].join("\r\n");
}

/** One frame of Docker's multiplexed streams. */
export interface Frame {
  readonly channel: number;
  readonly data: Buffer;
}

/** Takes a multiplexed stream apart. @throws where it does not end with a frame */
export function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let position = 0; position < bytes.length; ) {
    const end = position + 8 + bytes.readUInt32BE(position + 4);
    if (end > bytes.length) {
      throw new Error("the stream ends within a frame");
    }
    frames.push({ channel: bytes.readUInt8(position), data: bytes.subarray(position + 8, end) });
    position = end;
  }
  return frames;
}

/** All that came on one channel. */
export function channelText(bytes: Buffer, channel: number): string {
  return Buffer.concat(
    framesOf(bytes)
      .filter((frame) => frame.channel === channel)
      .map(({ data }) => data),
  ).toString();
}
