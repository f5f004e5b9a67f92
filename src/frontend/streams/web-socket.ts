/** A client's WebSocket as a stream of bytes. */
import { createRequire } from "node:module";
import { Duplex } from "node:stream";

import type { RawData, WebSocket } from "ws";

import type { HijackContext } from "../request-context.ts";
import { prepareForStreaming } from "./client-socket.ts";

const require = createRequire(import.meta.url);

/** Maximum bytes of one message from a client; longer stdin is sent as several messages. */
const maxMessageBytes = 1024 * 1024;

/** Answers the handshake and returns the connection as a stream whose writes become messages. */
export async function acceptWebSocket(context: HijackContext): Promise<Duplex> {
  const { socket, head, request, version } = context;
  // Loaded with the first such client, as most daemons never have one.
  const { WebSocketServer } = require("ws") as typeof import("ws");
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: maxMessageBytes,
    perMessageDeflate: false,
    allowSynchronousEvents: false, // Each message waits for a turn of the event loop: they may be small and many.
  });
  // The library answers an invalid handshake.
  context.takeOver();
  prepareForStreaming(socket);
  const webSocket = await new Promise<WebSocket>((resolve, reject) => {
    server.once("wsClientError", reject);
    socket.once("close", () => reject(new Error("the client left during the handshake")));
    server.handleUpgrade(request, socket, head, resolve);
  });
  // Output is binary from API 1.28 on, and text before.
  return new WebSocketStream(webSocket, version.atLeast("1.28"));
}

/**
 * Messages as a byte stream, with back-pressure both ways. A WebSocket has no half-close: its close means that the
 * client left.
 */
class WebSocketStream extends Duplex {
  readonly #webSocket: WebSocket;
  readonly #binary: boolean;

  constructor(webSocket: WebSocket, binary: boolean) {
    super();
    this.#webSocket = webSocket;
    this.#binary = binary;
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
