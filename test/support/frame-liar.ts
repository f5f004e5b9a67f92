/** A server that speaks TLS and HTTP/2 as far as a client's first call, and then writes frames without end. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";

import type { TlsFiles } from "../../src/common/config/load.ts";

/** Types of frames (RFC 9113, 7838, 8336, 9218). */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
  altsvc: 10,
  origin: 12,
  priorityUpdate: 16,
  unknown: 77,
} as const;

/** Flags of frames; `end` is that of headers' end, `ack` that of settings and pings. */
export const flags = { ack: 1, endStream: 1, end: 4, padded: 8 } as const;

const headLength = 9;
const prefaceLength = 24;
/** SETTINGS_INITIAL_WINDOW_SIZE. */
const initialWindow = 4;

/** Bytes that are written once, and those that follow for ever. */
export interface Lie {
  readonly first?: Buffer;
  readonly endless: Buffer;
  /** Whether each byte is written once the one before is, which makes each a TLS record. */
  readonly inBytes?: boolean;
  /** Bytes of data in `endless`, if it is sent only as far as the windows of its stream allow. */
  readonly data?: number;
}

/** Parts of what a liar writes to one client. */
export interface Script {
  /** Frames before its call; settings of no choice where they are left out. */
  readonly settings?: Buffer;
  /** Answers a call by the number of its stream. */
  readonly answer: (stream: number) => Lie;
  /** Bytes after which the liar gives up and hangs up. */
  readonly length: number;
}

/**
 * A frame.
 *
 * @param length what its head says; that of its payload where it is left out
 */
export function frame(
  type: number,
  flag: number,
  stream: number,
  payload: Uint8Array = new Uint8Array(0),
  length: number = payload.length,
): Buffer {
  const head = Buffer.alloc(headLength);
  head.writeUIntBE(length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flag, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Serves one connection at a time. */
export class FrameLiar {
  readonly #server: Server;
  #script: Script = { answer: () => ({ endless: Buffer.alloc(1) }), length: 0 };
  /** Bytes of the lie that were written. */
  sent = 0;
  /** Connections since {@link tell}. */
  connections = 0;

  constructor({ ca, cert, key }: TlsFiles) {
    const read = (path: string): Buffer => readFileSync(path);
    this.#server = createServer(
      { ca: read(ca), cert: read(cert), key: read(key), requestCert: true, ALPNProtocols: ["h2"] },
      (socket) => this.#serve(socket),
    );
  }

  /** @returns the port of 127.0.0.1 */
  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  /** Chooses what the next client is told. */
  tell(script: Script): void {
    this.#script = script;
    this.sent = 0;
    this.connections = 0;
  }

  async close(): Promise<void> {
    this.#server.close();
    await once(this.#server, "close");
  }

  #serve(socket: TLSSocket): void {
    this.connections++;
    socket.on("error", () => {}); // the client has heard enough
    socket.write(this.#script.settings ?? frame(frameTypes.settings, 0, 0));
    socket.write(frame(frameTypes.settings, flags.ack, 0));
    let heard = Buffer.alloc(0);
    const listen = (chunk: Buffer): void => {
      heard = Buffer.concat([heard, chunk]);
      const stream = firstCall(heard.subarray(prefaceLength));
      if (stream !== undefined) {
        const window = new SendWindow(heard.subarray(prefaceLength), stream);
        socket.off("data", listen).on("data", (more: Buffer) => window.hear(more));
        this.#lie(socket, window, this.#script.answer(stream));
      }
    };
    socket.on("data", listen);
  }

  #lie(socket: TLSSocket, window: SendWindow, { first, endless, inBytes = false, data = 0 }: Lie): void {
    if (first !== undefined) {
      socket.write(first);
    }
    const more = (): void => {
      if (socket.destroyed) {
        return;
      }
      if (this.sent >= this.#script.length) {
        socket.destroy();
        return;
      }
      if (inBytes) {
        const at = this.sent++ % endless.length;
        socket.write(endless.subarray(at, at + 1), (error) => error ?? setImmediate(more));
        return;
      }
      if (data > window.left) {
        window.opened = more;
        return;
      }
      window.left -= data;
      this.sent += endless.length;
      if (socket.write(endless)) {
        setImmediate(more);
      }
    };
    if (!inBytes) {
      socket.on("drain", more);
    }
    more();
  }
}

/** Bytes of data that a client takes on a stream. That of the connection is not looked at: Node keeps it open. */
class SendWindow {
  left = 65_535;
  /** Called once when it has grown. */
  opened: (() => void) | undefined;
  readonly #stream: number;
  #initial = 65_535;
  #unread: Buffer = Buffer.alloc(0);

  /** @param heard frames so far */
  constructor(heard: Buffer, stream: number) {
    this.#stream = stream;
    this.hear(heard);
  }

  hear(bytes: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, bytes]);
    while (this.#unread.length >= headLength) {
      const end = headLength + this.#unread.readUIntBE(0, 3);
      if (this.#unread.length < end) {
        break;
      }
      this.#take(this.#unread.subarray(0, end));
      this.#unread = this.#unread.subarray(end);
    }
    const { opened } = this;
    this.opened = undefined;
    opened?.();
  }

  #take(heard: Buffer): void {
    const type = heard.readUInt8(3);
    if (type === frameTypes.window && heard.readUInt32BE(5) === this.#stream) {
      this.left += heard.readUInt32BE(headLength);
    }
    for (let at = headLength; type === frameTypes.settings && at < heard.length; at += 6) {
      if (heard.readUInt16BE(at) === initialWindow) {
        this.left += heard.readUInt32BE(at + 2) - this.#initial;
        this.#initial = heard.readUInt32BE(at + 2);
      }
    }
  }
}

/** Finds the stream that the first whole HEADERS among a client's frames opens. */
function firstCall(frames: Buffer): number | undefined {
  let at = 0;
  while (at + headLength <= frames.length) {
    const next = at + headLength + frames.readUIntBE(at, 3);
    if (frames.readUInt8(at + 3) === frameTypes.headers && next <= frames.length) {
      return frames.readUInt32BE(at + 5);
    }
    at = next;
  }
  return undefined;
}
