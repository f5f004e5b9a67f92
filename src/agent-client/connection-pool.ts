/** Connections by address, so that streams to one agent share sessions. */
import type { ByteBudget } from "../common/byte-budget.ts";
import { AgentConnection, type ConnectionOptions } from "./connection.ts";
import type { DialTarget } from "./address.ts";

/** Keeps one {@link AgentConnection} per address; drops idle ones. */
export class ConnectionPool {
  readonly #connections = new Map<string, AgentConnection>();
  readonly #borrowers = new Map<AgentConnection, number>();
  readonly #settings: ConnectionOptions;

  /**
   * @param windows shared budget for the receive windows of all streams, or the bytes of each
   * @param outlivesCuts as of {@link ConnectionOptions}
   */
  constructor(windows: ByteBudget | number, outlivesCuts = true) {
    this.#settings = { ...(typeof windows === "number" ? { window: windows } : { windows }), outlivesCuts };
  }

  /** Number of connections. */
  get size(): number {
    return this.#connections.size;
  }

  /**
   * The connection to a target's address; it may not be open yet.
   *
   * @param use calls of different uses share no connection
   */
  connectionTo(target: DialTarget, use = ""): AgentConnection {
    const key = `${use}\n${keyOf(target)}`;
    const known = this.#connections.get(key);
    if (known !== undefined) {
      return known;
    }
    const connection: AgentConnection = new AgentConnection(target, {
      onIdle: () => {
        if (this.#connections.get(key) === connection) {
          this.#connections.delete(key); // The key may have another one by now.
        }
      },
      ...this.#settings,
    });
    this.#connections.set(key, connection);
    return connection;
  }

  /** As {@link connectionTo}; the last of those who have it at the same time closes it. Leaving again is harmless. */
  borrow(target: DialTarget): { readonly connection: AgentConnection; readonly leave: () => void } {
    const connection = this.connectionTo(target);
    const borrowers = (): number => this.#borrowers.get(connection) ?? 0;
    this.#borrowers.set(connection, borrowers() + 1);
    let hasLeft = false;
    const leave = (): void => {
      this.#borrowers.set(connection, borrowers() - Number(!hasLeft));
      hasLeft = true;
      if (borrowers() === 0) {
        this.#borrowers.delete(connection);
        connection.close();
      }
    };
    return { connection, leave };
  }

  /** Closes every connection; their streams end with an error. */
  close(): void {
    for (const connection of this.#connections.values()) {
      connection.close();
    }
    this.#connections.clear();
  }
}

/** A connection's key: targets share a connection only if the peer sees no difference. */
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
