/** A proxy before a registry, which a test can let misbehave. */
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  request as httpRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { SecureContextOptions } from "node:tls";

/** Answers a request itself (true), or lets it through (false). */
export type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

/** Listens on a port of its own and passes on what its interceptor does not answer. */
export class RegistryProxy implements AsyncDisposable {
  /** Requests so far, as `GET /v2/`. */
  readonly requests: string[] = [];
  /** The `User-Agent` headers of all requests; undefined among them: a request without one. */
  readonly userAgents = new Set<string | undefined>();
  /** Address on which it listens: `127.0.0.1:port`. */
  readonly host: string;
  intercept: Intercept = () => false;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** Starts a proxy for a registry at `host:port`. @param tls its certificate, if it is to speak TLS */
  static async start(upstream: string, tls?: SecureContextOptions): Promise<RegistryProxy> {
    const server = tls === undefined ? createServer() : createTlsServer(tls);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const proxy = new RegistryProxy(server);
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      proxy.#answer(upstream, request, response).catch(() => response.destroy());
    });
    return proxy;
  }

  async #answer(upstream: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push(`${request.method} ${request.url}`);
    this.userAgents.add(request.headers["user-agent"]);
    if (!(await this.intercept(request, response))) {
      forward(upstream, request, response);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

/** Passes a request on; `onlyBytes` of the body come back, then the connection breaks. */
export function forward(
  upstream: string,
  request: IncomingMessage,
  response: ServerResponse,
  onlyBytes = Number.POSITIVE_INFINITY,
): void {
  const onward = httpRequest(`http://${upstream}${request.url}`, {
    method: request.method ?? "GET",
    headers: { ...request.headers, host: upstream },
  });
  onward.on("error", () => response.destroy());
  onward.on("response", (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    let left = onlyBytes;
    answer.on("data", (chunk: Buffer) => {
      response.write(chunk.subarray(0, left), () => {
        if (left <= 0) {
          response.destroy();
          onward.destroy();
        }
      });
      left -= chunk.length;
    });
    answer.on("end", () => response.end());
    answer.on("error", () => response.destroy());
  });
  request.pipe(onward);
}
