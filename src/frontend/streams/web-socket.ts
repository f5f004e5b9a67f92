/** A client's WebSocket as a stream of bytes. */
import { Duplex } from "node:stream";

import type { RawData } from "ws";

import type { BoundedWebSocket } from "../../common/bounded-web-socket.ts";
import { packWaiting } from "../../common/pack-waiting.ts";
import type { HijackContext } from "../request-context.ts";
import { prepareForStreaming } from "./client-socket.ts";
import { joinFrames } from "./join-frames.ts";

/** Answers the handshake and returns the connection as a stream whose writes become messages. */
export async function acceptWebSocket(context: HijackContext): Promise<Duplex> {
  const { socket, request, version } = context;
  // Loaded with the first such client, as most daemons never have one.
  const [{ WebSocketServer }, { BoundedWebSocket }] = await Promise.all([
    import("ws"),
    import("../../common/bounded-web-socket.ts"),
  ]);
  const server = new WebSocketServer({
    WebSocket: BoundedWebSocket,
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    autoPong: false,
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
    server.handleUpgrade(request, socket, joinFrames(socket), resolve);
  });
  webSocket.on("ping", (data) => webSocket.answer(data));
  // Output is binary from API 1.28 on, and text before.
  return new WebSocketStream(webSocket, version.atLeast("1.28"));
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
