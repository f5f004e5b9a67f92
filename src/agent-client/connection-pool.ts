/** Connections by address, so that the streams to one agent share sessions. */
import type { ByteBudget } from "../common/byte-budget.ts";
import { AgentConnection } from "./connection.ts";
import type { DialTarget } from "./address.ts";

/** Hands out one {@link AgentConnection} per address; those that have become idle are forgotten. */
export class ConnectionPool {
  readonly #connections = new Map<string, AgentConnection>();
  readonly #windows: ByteBudget | undefined;

  /** @param windows what the receive windows of all their streams are taken from; undefined: each has its own */
  constructor(windows?: ByteBudget) {
    this.#windows = windows;
  }

  /** How many addresses have a connection. */
  get size(): number {
    return this.#connections.size;
  }

  /** The connection to a target's address, not necessarily open yet. */
  connectionTo(target: DialTarget): AgentConnection {
    const key = keyOf(target);
    let connection = this.#connections.get(key);
    if (connection === undefined) {
      connection = new AgentConnection(target, {
        onIdle: () => this.#connections.delete(key),
        windows: this.#windows,
        outlivesCuts: true,
      });
      this.#connections.set(key, connection);
    }
    return connection;
  }

  /** Closes every connection; streams end with an error. */
  close(): void {
    for (const connection of this.#connections.values()) {
      connection.close();
    }
    this.#connections.clear();
  }
}

/** Key of a connection: two targets share one only where the peer would see no difference. */
function keyOf({ address, credentials, containerId }: DialTarget): string {
  const shown = credentials?.certificateChain;
  switch (address.kind) {
    case "unix":
      return address.path;
    case "tcp":
      return ["tcp", address.host, address.port, Buffer.from(address.pin).toString("hex"), shown].join("\n");
    case "called":
      return ["called", address.path, containerId, Buffer.from(address.pin).toString("hex"), shown].join(
        "\n",
      );
    case "relay":
      return ["relay", address.host, address.port, address.authority, shown].join("\n");
  }
}
