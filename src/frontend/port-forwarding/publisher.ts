/**
 * Published ports of containers that run elsewhere. This process binds them before it asks the backend to start a
 * container, so that a port in use fails the start, and for as long as the container is active: exits, restart policies
 * and other frontends' requests are followed by watching events.
 */
import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../common/clock.ts";
import { fromUnknown, messageOf, notImplemented, SockerlessError } from "../../common/errors.ts";
import { newId } from "../../common/ids.ts";
import type { Logger } from "../../common/logger.ts";
import {
  type DescribePortsResponse,
  type InnerSocket,
  type PortMapping,
  PortMappingSchema,
  type WantedPort,
  WantedPortSchema,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { BackendClients } from "../backend/clients.ts";
import { ListenerRoom } from "./listener-room.ts";
import { type BoundSocket, bindPort, closePorts } from "./port-binding.ts";
import type { SharedRoom } from "../shared-room.ts";
import { listenTcp } from "./tcp-port.ts";
import type { ContainerTunnels } from "./tunnels.ts";
import { listenUdp } from "./udp-port.ts";
import { pauseAfter } from "../../common/pauses.ts";

/** Events that may make a container start or stop being active. */
const watchedActions = ["start", "die", "restart", "destroy"];
/** Pause before the next request to a backend that was unavailable, in milliseconds. */
const retryMs = 1_000;
/** Back-off before a port that could not be bound is tried again, in milliseconds: doubles each time. */
const rebindPauses = { firstMs: 1_000, longestMs: 30_000 };

/** Ports of one container. */
interface Published {
  readonly sockets: readonly BoundSocket[];
  readonly mappings: readonly PortMapping[];
}

/** The state of a container's ports, as a start reports it to the backend. */
export interface Listening {
  readonly published: PortMapping[];
  /** Why they cannot be bound; empty if they are. */
  readonly publishFailure: string;
}

/** Receives the Docker sockets inside a container. */
export type OnSockets = (containerId: string, sockets: readonly InnerSocket[]) => void;

/** Dependencies of a publisher. */
export interface PublisherOptions {
  readonly backend: Pick<BackendClients, "containers" | "events">;
  readonly tunnels: ContainerTunnels;
  readonly room: SharedRoom;
  /** Maximum of listening sockets, of which most ports have two: IPv4's and IPv6's. */
  readonly mostListeners: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Listens for the published ports of containers. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #listeners: ListenerRoom;
  readonly #published = new Map<string, Published>();
  /**
   * Containers that a request of this frontend is starting; their ports stay bound whatever state the backend reports.
   */
  readonly #starting = new Map<string, number>();
  /** The last step of each container; steps of one container run one after the other. */
  readonly #steps = new Map<string, Promise<void>>();
  /** Containers whose ports could not be updated, with the number of consecutive failures. */
  readonly #failing = new Map<string, number>();
  readonly #shutdown = new AbortController();
  #watching: Promise<void> | undefined;
  #onSockets: OnSockets = () => {};
  /** Containers whose Docker sockets were reported. */
  readonly #withSockets = new Set<string>();
  /** True if the backend listens itself; that does not change while it is the same backend. */
  #idle: boolean = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#listeners = new ListenerRoom(options.mostListeners);
  }

  /**
   * Begins to watch containers, including running ones.
   *
   * @param onSockets receives the Docker sockets inside each container that begins to run, and an empty list once it no
   *   longer runs
   */
  watch(onSockets: OnSockets = () => {}): void {
    this.#onSockets = onSockets;
    this.#watching ??= this.#watchForEver();
  }

  /**
   * Starts a container: its ports are bound first.
   *
   * @param container name or ID
   * @param start makes the call to the backend with the bound ports, or with the error: the backend must also know of a
   *   start that failed
   * @throws SockerlessError of kind `system` if a port is in use; what `start` throws. Nothing stays bound then.
   */
  async start(container: string, start: (listening: Listening) => Promise<unknown>): Promise<void> {
    const ports = this.#idle ? undefined : await this.#describe(container);
    if (ports === undefined) {
      // The container does not exist, which the start reports, or this process does not publish its ports.
      await start({ published: [], publishFailure: "" });
      return;
    }
    const id = ports.containerId;
    this.#starting.set(id, (this.#starting.get(id) ?? 0) + 1);
    try {
      const published = await this.#step(id, () => this.#bindFor(ports)).catch(async (error: unknown) => {
        await start({ published: [], publishFailure: messageOf(error) });
        throw error;
      });
      await start({ published: [...published], publishFailure: "" });
    } finally {
      const others = (this.#starting.get(id) ?? 1) - 1;
      if (others === 0) {
        this.#starting.delete(id);
      } else {
        this.#starting.set(id, others);
      }
      await this.#settle(id);
    }
  }

  /** Frees every port. */
  async close(): Promise<void> {
    this.#shutdown.abort();
    await this.#watching;
    await Promise.all(this.#steps.values());
    await Promise.all([...this.#published.keys()].map((id) => this.#free(id)));
  }

  async #bindFor(ports: DescribePortsResponse): Promise<readonly PortMapping[]> {
    const { containerId, name, active, published, wanted } = ports;
    const bound = this.#published.get(containerId);
    if (bound !== undefined) {
      return bound.mappings; // It already runs, which the start reports.
    }
    if (active) {
      return published;
    }
    try {
      return await this.#bind(ports, wanted);
    } catch (error) {
      // An endpoint gets its ID at the start and loses it when the start fails: this one never existed.
      const endpoint = `${name} (${newId()})`;
      throw new SockerlessError(
        "system",
        `failed to set up container networking: driver failed programming external connectivity on endpoint ${endpoint}: ${messageOf(error)}`,
        error,
      );
    }
  }

  async #bind(
    { containerId, creator }: DescribePortsResponse,
    wanted: readonly WantedPort[],
  ): Promise<readonly PortMapping[]> {
    const listeners = this.#listeners.of(containerId, creator);
    const sockets: BoundSocket[] = [];
    const mappings: PortMapping[] = [];
    try {
      for (const port of wanted) {
        listeners.requireRoom();
        for (const socket of await bindPort(port, (address, number) =>
          this.#listen(containerId, port, address, number),
        )) {
          const forget = listeners.add();
          const close = (): void => {
            socket.close();
            forget();
          };
          sockets.push({ ...socket, close });
          mappings.push(
            create(PortMappingSchema, {
              ip: socket.address,
              privatePort: port.containerPort,
              publicPort: socket.port,
              type: port.protocol,
            }),
          );
        }
      }
    } catch (error) {
      await closePorts(sockets);
      throw error;
    }
    this.#published.set(containerId, { sockets, mappings });
    return mappings;
  }

  #listen(containerId: string, { protocol, containerPort }: WantedPort, address: string, number: number) {
    const { tunnels, room } = this.#options;
    const [own, to] = [room.share(), tunnels.portOf(containerId, containerPort)];
    switch (protocol) {
      case "tcp":
        return listenTcp(address, number, own, (socket) => tunnels.connect(socket, to));
      case "udp":
        return listenUdp(address, number, own, (answer, ended) => tunnels.openFlow(to, answer, ended));
      default:
        throw notImplemented(`publishing ${protocol} ports is not supported`);
    }
  }

  async #free(containerId: string): Promise<void> {
    const bound = this.#published.get(containerId);
    this.#published.delete(containerId);
    await closePorts(bound?.sockets ?? []);
  }

  /** Updates a container's ports, eventually, to the state that the backend reports now. Never rejects. */
  #settle(containerId: string): Promise<void> {
    return this.#step(containerId, async () => {
      try {
        await this.#bringInLine(containerId);
        this.#failing.delete(containerId);
      } catch (error) {
        const failures = (this.#failing.get(containerId) ?? 0) + 1;
        this.#failing.set(containerId, failures);
        this.#options.logger[failures === 1 ? "error" : "debug"](
          { err: error, container: containerId },
          `ports are not published: ${messageOf(error)}`,
        );
        if (fromUnknown(error).kind !== "not-implemented") {
          void this.#settleLater(containerId, failures);
        }
      }
    });
  }

  /** Tries again after a pause: there may be no further event, and the process that has the port may end. */
  async #settleLater(containerId: string, failures: number): Promise<void> {
    const pause = pauseAfter(failures, rebindPauses);
    const { signal } = this.#shutdown;
    await this.#options.clock.sleep(pause, signal).catch(() => {});
    if (!signal.aborted && this.#failing.get(containerId) === failures) {
      await this.#settle(containerId);
    }
  }

  async #bringInLine(containerId: string): Promise<void> {
    if (this.#starting.has(containerId)) {
      return;
    }
    const ports = await this.#describe(containerId);
    const sockets = ports?.active === true ? ports.sockets : [];
    this.#withSockets[sockets.length > 0 ? "add" : "delete"](containerId);
    this.#onSockets(containerId, sockets);
    if (ports?.active !== true) {
      await this.#free(containerId);
    } else if (!this.#published.has(containerId) && ports.published.length > 0) {
      await this.#bind(ports, ports.published.map(wantedPortOf));
    }
  }

  /** @returns undefined if it is gone, or if this process does not publish its ports */
  async #describe(container: string): Promise<DescribePortsResponse | undefined> {
    const { containers } = this.#options.backend;
    try {
      const ports = await containers.describePorts({ container });
      if (ports.byFrontend) {
        return ports;
      }
      this.#idle = true;
      this.#shutdown.abort();
      return undefined;
    } catch (error) {
      if (fromUnknown(error).kind === "not-found") {
        return undefined;
      }
      throw error;
    }
  }

  #step<T>(containerId: string, act: () => Promise<T>): Promise<T> {
    const step = (this.#steps.get(containerId) ?? Promise.resolve()).then(act);
    const done = step.then(
      () => {},
      () => {},
    );
    this.#steps.set(containerId, done);
    void done.then(() => {
      if (this.#steps.get(containerId) === done) {
        this.#steps.delete(containerId);
      }
    });
    return step;
  }

  async #watchForEver(): Promise<void> {
    const { signal } = this.#shutdown;
    while (!signal.aborted) {
      try {
        await this.#watchOnce(signal);
      } catch (error) {
        if (!signal.aborted) {
          this.#options.logger.debug({ err: error }, `containers cannot be followed: ${messageOf(error)}`);
        }
      }
      await this.#options.clock.sleep(retryMs, signal).catch(() => {});
    }
  }

  /** Watches events. None is missed once the backend has accepted the call; the state before that is queried. */
  async #watchOnce(signal: AbortSignal): Promise<void> {
    const { containers, events } = this.#options.backend;
    const filters = { type: { values: ["container"] }, event: { values: watchedActions } };
    for await (const { message } of events.subscribeEvents({ filters }, { signal })) {
      if (message.case === "event") {
        void this.#settle(message.value.actorId);
      } else if (message.case === "accepted") {
        const { containers: running } = await containers.listContainers({}, { signal });
        const ids = [...this.#published.keys(), ...this.#withSockets, ...running.map((each) => each.id)];
        for (const id of new Set(ids)) {
          void this.#settle(id);
        }
      }
    }
  }
}

/** The port with the addresses that were bound. */
function wantedPortOf({ ip, privatePort, publicPort, type }: PortMapping): WantedPort {
  return create(WantedPortSchema, {
    containerPort: privatePort,
    protocol: type,
    hostIp: ip,
    hostPort: publicPort,
  });
}
