/** The one HTTP endpoint of a simulated cloud. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";

/** A request, whole. */
export interface WireRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: Buffer;
}

/** The answer to a request, whole. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Thrown where the connection is to be closed without an answer. */
export class ConnectionCut extends Error {}

/** An endpoint on loopback. */
export class HttpEndpoint {
  readonly #cloud: string;
  readonly #scheme: "http" | "https";
  readonly #handle: (request: WireRequest, requestId: string) => Promise<WireAnswer>;
  readonly #server: Server;

  /**
   * @param cloud for what is printed where something is wrong
   * @param handle answers, or throws {@link ConnectionCut}
   * @param tls PEM of key and certificate; absent: plain HTTP
   */
  constructor(
    cloud: string,
    handle: (request: WireRequest, requestId: string) => Promise<WireAnswer>,
    tls?: { readonly key: string; readonly cert: string },
  ) {
    this.#cloud = cloud;
    this.#scheme = tls === undefined ? "http" : "https";
    this.#handle = handle;
    const serve = (request: IncomingMessage, response: ServerResponse): void => {
      void this.#serve(request, response);
    };
    this.#server = tls === undefined ? createServer(serve) : createTlsServer(tls, serve);
    this.#server.keepAliveTimeout = 60_000;
  }

  /** Listens on loopback; answers the URL. */
  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = randomUUID();
    try {
      const request = await readWhole(message);
      const answer = await this.#handle(request, requestId);
      response.writeHead(answer.status, {
        ...answer.headers,
        "content-length": Buffer.byteLength(answer.body),
        date: new Date().toUTCString(),
      });
      response.end(answer.body);
    } catch (error) {
      if (!(error instanceof ConnectionCut)) {
        console.error(`simulated ${this.#cloud}:`, error);
      }
      message.socket.destroy();
    }
  }
}

async function readWhole(message: IncomingMessage): Promise<WireRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) {
    chunks.push(chunk as Buffer);
  }
  return {
    method: message.method ?? "",
    url: new URL(message.url ?? "/", "http://simulated"),
    headers: message.headers,
    body: Buffer.concat(chunks),
  };
}
