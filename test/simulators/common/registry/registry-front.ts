/**
 * A cloud's registry: the Docker registry protocol before a real `docker-registry`, and the storage service where its
 * layers lie.
 */
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  request as sendRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";

import type { DockerRegistry } from "./docker-registry.ts";

/** A refusal in the registry protocol's form. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  /** The scope that a token would need. */
  readonly scope: string | undefined;

  constructor(status: number, code: string, message: string, scope?: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.scope = scope;
  }
}

/** The registry's two listeners: the protocol, which a cloud serves by its own rules, and the storage service. */
export abstract class RegistryFront implements AsyncDisposable {
  readonly #start: () => Promise<DockerRegistry>;
  #registry: Promise<DockerRegistry> | undefined;
  readonly #server: Server;
  readonly #storage: Server;

  /** @param start starts the real registry, at the first request */
  constructor(start: () => Promise<DockerRegistry>) {
    this.#start = start;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#storage = createServer((request, response) => void this.#serveLayer(request, response));
  }

  async listen(): Promise<void> {
    for (const server of [this.#server, this.#storage]) {
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
    }
  }

  /** `127.0.0.1:port` */
  get host(): string {
    return hostOf(this.#server);
  }

  /** `127.0.0.1:port` of the registry behind, which lets everybody in. */
  async behind(): Promise<string> {
    this.#registry ??= this.#start();
    return `127.0.0.1:${(await this.#registry).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.#server, this.#storage]) {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    }
    await (await this.#registry)?.[Symbol.asyncDispose]();
  }

  /** Answers a request of the protocol. @throws Refusal */
  protected abstract serve(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void>;

  /** The challenge of a refusal with the status 401. */
  protected abstract challenge(refusal: Refusal): string;

  /** Sends a client to the storage service for a layer. */
  protected redirect(response: ServerResponse, { pathname }: URL): void {
    const location = `http://${hostOf(this.#storage)}${pathname}?signature=simulated`;
    response.writeHead(307, { location, "content-length": 0 }).end();
  }

  /** Hands a request to the real registry, and its answer back. */
  protected async pass(request: IncomingMessage, response: ServerResponse, target: string): Promise<void> {
    const { authorization: _ours, ...headers } = request.headers;
    const [host, port] = (await this.behind()).split(":");
    const passed = sendRequest({ host, port, method: request.method, path: target, headers });
    const answered = once(passed, "response") as Promise<[IncomingMessage]>;
    await Promise.all([
      pipeline(request, passed),
      answered.then(async ([answer]) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        await pipeline(answer, response);
      }),
    ]);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.serve(request, response, new URL(request.url ?? "/", "http://registry"));
    } catch (error) {
      request.resume();
      if (error instanceof Refusal && !response.headersSent) {
        this.#refuse(response, error);
      } else {
        response.destroy();
      }
    }
  }

  #refuse(response: ServerResponse, refusal: Refusal): void {
    const { status, code, message } = refusal;
    const body = JSON.stringify({ errors: [{ code, message }] });
    response.writeHead(status, {
      "content-type": "application/json; charset=utf-8",
      "content-length": Buffer.byteLength(body),
      ...(status === 401 ? { "www-authenticate": this.challenge(refusal) } : {}),
    });
    response.end(response.req.method === "HEAD" ? undefined : body);
  }

  /** The storage service: its addresses are signed, and it takes no other credentials. */
  async #serveLayer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = new URL(request.url ?? "/", "http://storage");
    if (request.headers.authorization !== undefined || !target.searchParams.has("signature")) {
      const message = "Only one auth mechanism allowed";
      response.writeHead(400, { "content-type": "application/xml" });
      response.end(`<Error><Code>InvalidArgument</Code><Message>${message}</Message></Error>`);
      return;
    }
    await this.pass(request, response, target.pathname).catch(() => response.destroy());
  }
}

function hostOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The body of a request. @throws Refusal for more than so many bytes */
export async function readWhole(request: IncomingMessage, most = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > most) {
      throw new Refusal(413, "MANIFEST_INVALID", "the manifest is too large");
    }
  }
  return Buffer.concat(chunks);
}
