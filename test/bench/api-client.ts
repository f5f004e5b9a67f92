/**
 * The thinnest Docker client, in this process: it prepares what the measuring client is to measure, and starts many
 * containers at once. Connections are kept, as SDKs keep them.
 */
import { Agent, type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";

export class ApiClient {
  readonly #socketPath: string;
  readonly #agent: Agent;
  readonly #interrupted: AbortSignal | undefined;

  /**
   * @param atOnce requests that are under way at the same time; others wait here
   * @param interrupted ends what is under way once it is aborted; no further request is made
   */
  constructor(socketPath: string, atOnce = 64, interrupted?: AbortSignal) {
    this.#socketPath = socketPath;
    this.#interrupted = interrupted;
    this.#agent = new Agent({ keepAlive: true, maxSockets: atOnce });
  }

  /** Sends a request and reads the whole answer. Throws for a status of 400 and more. */
  async call(method: string, path: string, body?: unknown): Promise<Buffer> {
    const response = await this.#stream(method, path, body === undefined ? undefined : JSON.stringify(body));
    const chunks: Buffer[] = [];
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
    }
    return Buffer.concat(chunks);
  }

  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return JSON.parse((await this.call(method, path, body)).toString()) as T;
  }

  /** Sends a request and answers when the response's header is there. */
  #stream(method: string, path: string, body?: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      this.#interrupted?.throwIfAborted();
      const outgoing = request(
        {
          socketPath: this.#socketPath,
          method,
          path: `/v1.41${path}`,
          agent: this.#agent,
          ...(this.#interrupted !== undefined && { signal: this.#interrupted }),
          headers: {
            ...(body !== undefined && { "Content-Type": "application/json" }),
            "Content-Length": body === undefined ? 0 : Buffer.byteLength(body),
          },
        },
        (response) => {
          if ((response.statusCode ?? 0) >= 400) {
            let text = "";
            response.setEncoding("utf8").on("data", (chunk: string) => {
              text += chunk;
            });
            response.once("end", () =>
              reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`)),
            );
            return;
          }
          resolve(response);
        },
      );
      outgoing.once("error", reject);
      outgoing.end(body);
    });
  }

  /** Takes a connection over (`Upgrade: tcp`); answers once the daemon has accepted. */
  hijack(path: string, body: unknown = {}): Promise<Hijacked> {
    return new Promise((resolve, reject) => {
      this.#interrupted?.throwIfAborted();
      const text = JSON.stringify(body);
      const socket = connect({
        ...{ path: this.#socketPath, allowHalfOpen: true },
        ...(this.#interrupted !== undefined && { signal: this.#interrupted }),
      });
      socket.setNoDelay(true);
      socket.write(
        `POST /v1.41${path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
      );
      let head = Buffer.alloc(0);
      const read = (chunk: Buffer): void => {
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) {
          return;
        }
        socket.off("data", read);
        socket.pause();
        if (!head.toString("latin1", 9, 12).startsWith("101")) {
          socket.destroy();
          reject(new Error(`${path}: ${head.toString()}`));
          return;
        }
        resolve({ socket, first: head.subarray(end + 4) });
      };
      socket.on("data", read);
      socket.once("error", reject);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** A taken-over connection, paused, and what came with the acceptance. */
export interface Hijacked {
  readonly socket: Socket;
  readonly first: Buffer;
}
