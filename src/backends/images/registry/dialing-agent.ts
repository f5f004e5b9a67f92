/** Node's pool of kept-alive connections over those of the {@link Dialer}, for `http:` and `https:` alike. */
import { Agent, type AgentOptions, type ClientRequest, type ClientRequestArgs } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

import type { Dialer, DialTarget } from "./dialer.ts";

/** The way to a request's server, as option of the request. */
export interface DialOptions {
  readonly dial: Omit<DialTarget, "host" | "port"> & { readonly signal: AbortSignal };
}

/** The agent of a scheme. Requests say that TLS is spoken; they send over it what they would send without. */
export class DialingAgent extends Agent {
  readonly #dialer: Dialer;

  constructor(dialer: Dialer, protocol: "http:" | "https:") {
    const options: AgentOptions & { readonly protocol: string } = {
      keepAlive: true,
      protocol,
      defaultPort: protocol === "https:" ? 443 : 80,
    };
    super(options);
    this.#dialer = dialer;
  }

  override createConnection(
    options: ClientRequestArgs & Partial<DialOptions>,
    callback?: (error: Error | null, connection: Duplex) => void,
  ): undefined {
    const { host, port, dial } = options;
    if (dial === undefined || callback === undefined) {
      throw new Error("the request lacks its way");
    }
    const { signal, ...way } = dial;
    this.#dialer.dial({ host: host ?? "", port: Number(port), ...way }, signal).then(
      (socket) => {
        callback(null, socket);
        if (signal.aborted) {
          socket.destroy(); // The agent may be destroyed already, with no request to end.
        }
      },
      (error: Error) => (callback as (error: Error) => void)(error),
    );
  }

  /** @returns false if it is not to be kept, which the types leave out */
  override keepSocketAlive(socket: Duplex): unknown {
    this.#dialer.keepIdle(socket as Socket);
    return super.keepSocketAlive(socket);
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    this.#dialer.use(socket as Socket);
    super.reuseSocket(socket, request);
  }
}
