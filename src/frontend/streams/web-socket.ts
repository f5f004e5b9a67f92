/** A client's WebSocket as a stream of bytes. */
import { createRequire } from "node:module";
import { Duplex } from "node:stream";

import type { RawData, WebSocket } from "ws";

import type { HijackContext } from "../request-context.ts";
import { prepareForStreaming } from "./client-socket.ts";

const require = createRequire(import.meta.url);

/** The most bytes of one message from a client; it is stdin, so whoever has more sends more messages. */
const maxMessageBytes = 1024 * 1024;

/** Answers the handshake and gives the connection as a stream: what is written becomes messages. */
export async function acceptWebSocket(context: HijackContext): Promise<Duplex> {
  const { socket, head, request, version } = context;
  // With the first client that asks for one: most daemons meet none.
  const { WebSocketServer } = require("ws") as typeof import("ws");
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: maxMessageBytes,
    perMessageDeflate: false,
  });
  // A handshake that is none is answered by the library.
  context.takeOver();
  prepareForStreaming(socket);
  const webSocket = await new Promise<WebSocket>((resolve, reject) => {
    server.once("wsClientError", reject);
    socket.once("close", () => reject(new Error("the client left during the handshake")));
    server.handleUpgrade(request, socket, head, resolve);
  });
  // From 1.28 on output is binary, before it was text.
  return new WebSocketStream(webSocket, version.atLeast("1.28"));
}

/** Messages as bytes, with back-pressure both ways. A WebSocket has no half-close: its end is the client's leaving. */
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
    // Those who use the stream hear of its end by 'close'.
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
      // Without a closing handshake: to the client the stream was cut.
      this.#webSocket.terminate();
    }
    destroyed(error);
  }
}
