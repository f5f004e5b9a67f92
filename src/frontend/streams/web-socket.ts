/** A client's WebSocket as a stream of bytes. */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

import type { RawData } from "ws";

import type { BoundedWebSocket } from "../../common/bounded-web-socket.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { packWaiting } from "../../common/pack-waiting.ts";
import type { HijackContext } from "../request-context.ts";
import { prepareForStreaming } from "./client-socket.ts";

/** Maximum bytes of one message from a client; longer stdin is sent as several messages. */
const maxMessageBytes = 1024 * 1024;

/** Parts of a message, and reads of a part, that are kept until it is complete: each takes more than its bytes. */
const partLimits = { maxFragments: 256, maxBufferedChunks: 1_024 };

/** Bytes that have come since the last complete message, of all clients: an incomplete one keeps them. */
const incomplete = new ByteBudget(64 * 2 ** 20);
/** Bytes of one client: those that it always has, and the most. */
const [leastIncomplete, mostIncomplete] = [64 * 1024, 2 * maxMessageBytes];
/** Bytes that a read takes besides its own: a client may send each byte by itself. */
const readBytes = 512;
/** Bytes of a client's ping or pong besides its data. */
const frameBytes = 6;

/** Answers the handshake and returns the connection as a stream whose writes become messages. */
export async function acceptWebSocket(context: HijackContext): Promise<Duplex> {
  const { socket, head, request, version } = context;
  // Loaded with the first such client, as most daemons never have one.
  const [{ WebSocketServer }, { BoundedWebSocket }] = await Promise.all([
    import("ws"),
    import("../../common/bounded-web-socket.ts"),
  ]);
  const server = new WebSocketServer({
    WebSocket: BoundedWebSocket,
    noServer: true,
    clientTracking: false,
    maxPayload: maxMessageBytes,
    ...partLimits,
    perMessageDeflate: false,
    autoPong: false,
    allowSynchronousEvents: false, // Each message waits for a turn of the event loop: they may be small and many.
  });
  // The library answers an invalid handshake.
  context.takeOver();
  prepareForStreaming(socket);
  const webSocket = await new Promise<BoundedWebSocket>((resolve, reject) => {
    server.once("wsClientError", reject);
    const fail = (): void => reject(new Error("the client left during the handshake"));
    socket.once("close", fail);
    if (socket.destroyed) {
      fail();
    }
    server.handleUpgrade(request, socket, head, resolve);
  });
  // Output is binary from API 1.28 on, and text before.
  limitIncomplete(webSocket, socket);
  return new WebSocketStream(webSocket, version.atLeast("1.28"));
}

/** Cuts a client that sends more without completing a message than its share, or pings too often. */
function limitIncomplete(webSocket: BoundedWebSocket, socket: Socket): void {
  let held = 0;
  let content = 0;
  const hold = (bytes: number): void => {
    held += bytes;
    incomplete.take(bytes);
  };
  const release = (): void => {
    content = 0;
    hold(-held);
  };
  socket.on("data", ({ length }: Buffer) => {
    content += length;
    hold(length + readBytes);
    if (held > incomplete.share(leastIncomplete, mostIncomplete)) {
      webSocket.cut();
    }
  });
  const notePing = ({ length }: Buffer): void => {
    const read = Math.min(content, length + frameBytes); // They may go on for months.
    content -= read;
    hold(-read);
    if (content === 0) {
      release();
    }
    webSocket.notePing();
  };
  webSocket.on("message", release);
  webSocket.on("pong", notePing);
  webSocket.on("ping", (data) => {
    notePing(data);
    webSocket.answer(data);
  });
  webSocket.once("close", release);
}

/**
 * Messages as a byte stream, with back-pressure both ways. A WebSocket has no half-close: its close means that the
 * client left.
 */
class WebSocketStream extends Duplex {
  readonly #webSocket: BoundedWebSocket;
  readonly #binary: boolean;

  constructor(webSocket: BoundedWebSocket, binary: boolean) {
    super();
    this.#webSocket = webSocket;
    this.#binary = binary;
    packWaiting(this);
    webSocket.on("message", (data: RawData) => {
      const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data as Buffer);
      if (!this.push(bytes)) {
        webSocket.pause();
      }
    });
    webSocket.on("error", (error) => this.destroy(error));
    webSocket.on("close", () => this.destroy());
    // Users of the stream learn of its end by 'close'.
    this.on("error", () => {});
  }

  override _read(): void {
    this.#webSocket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: (error?: Error | null) => void): void {
    this.#webSocket.send(chunk, { binary: this.#binary }, written);
  }

  override _final(ended: () => void): void {
    this.#webSocket.close(1000);
    ended();
  }

  override _destroy(error: Error | null, destroyed: (error: Error | null) => void): void {
    if (this.#webSocket.readyState === this.#webSocket.OPEN) {
      // Without a closing handshake, so that the client sees the stream as cut.
      this.#webSocket.terminate();
    }
    destroyed(error);
  }
}
