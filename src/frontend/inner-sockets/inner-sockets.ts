/**
 * Docker sockets inside containers that run elsewhere. A container's agent listens; tunnels from here wait for
 * connections of its processes. Each container has a server of its own, which marks its calls to the backend with the
 * container.
 */
import type { Transport } from "@connectrpc/connect";

import { encodeTunnelOpen } from "../../agent-client/tunnel.ts";
import type { Clock } from "../../common/clock.ts";
import { messageOf, unavailable } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { onAbort } from "../../common/on-abort.ts";
import { pauseAfter } from "../../common/pauses.ts";
import type { InnerSocket } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { type BackendClients, createBackendClients } from "../backend/clients.ts";
import { Slots } from "../http/slots.ts";
import { LongHeaders } from "../http/long-headers.ts";
import { joinSocket } from "../port-forwarding/tunnels.ts";
import type { FrontendServices } from "../request-context.ts";
import type { Route } from "../router.ts";
import { DockerApiServer } from "../server.ts";
import { type RoomShare, SharedRoom, usualRoom } from "../shared-room.ts";
import { OpenAttachments } from "../streams/open-attachments.ts";
import { PendingStarts } from "../streams/pending-starts.ts";
import { ExecEnds } from "../streams/exec-ends.ts";
import type { StreamLink } from "../streams/stream-link.ts";
import { actingTransport } from "./acting-transport.ts";
import { connectionTo } from "./connection-to.ts";

/** Maximum connections per container, including tunnels that still wait for one. */
const mostConnections = 64;
/** Maximum of new connections per container and second. */
const mostPerSecond = 64;
/** Maximum of new connections of all containers in a while, 256 a second: each takes the main thread some work. */
const mostAtOnceOfAll = 64;
const whileOfAllMs = 250;
/** All containers' share of the descriptors that are not for the API's own clients. */
const shareOfAll = 1 / 8;
/** Maximum total of long headers of all containers: of unfinished ones, and of those of requests. */
const longHeadersBytes = 16 * 1024 * 1024;
/** Tunnels of one socket that wait for a connection. */
const waitingTunnels = 2;
/** Pauses after a tunnel that could not be opened, before the next. */
const pauses = { firstMs: 200, longestMs: 5_000 };

/** Dependencies. */
export interface InnerSocketsOptions {
  /** Transport to the backend for the frontend's clients. */
  readonly transport: Transport;
  /** Services for the frontend's clients. */
  readonly services: FrontendServices;
  readonly routes: readonly Route[];
  readonly version: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A container whose sockets are served. */
interface Served {
  readonly end: AbortController;
  readonly done: Promise<unknown>;
}

/** Bounds that a container's sockets share. */
interface Shares {
  readonly connections: Slots;
  readonly begun: Slots;
  readonly room: RoomShare;
}

/** Serves the Docker sockets of all containers. */
export class InnerSockets {
  readonly #options: InnerSocketsOptions;
  readonly #served = new Map<string, Served>();
  readonly #ending = new Set<Promise<unknown>>();
  readonly #begun = new Slots(mostAtOnceOfAll);
  readonly #room = new SharedRoom(usualRoom(shareOfAll));
  readonly #longHeaders = new LongHeaders(longHeadersBytes, (reason) => this.#options.logger.warn(reason));

  constructor(options: InnerSocketsOptions) {
    this.#options = options;
  }

  /** Sets the sockets to serve for a container, replacing earlier ones. @param sockets empty if it does not run */
  settle(containerId: string, sockets: readonly InnerSocket[]): void {
    const served = this.#served.get(containerId);
    if (sockets.length === 0 && served !== undefined) {
      this.#served.delete(containerId);
      this.#leave(served);
    } else if (sockets.length > 0 && served === undefined) {
      const end = new AbortController();
      const shares = {
        connections: new Slots(mostConnections),
        begun: new Slots(mostPerSecond),
        room: this.#room.share(),
      };
      const done = Promise.all(sockets.map((socket) => this.#serve(containerId, socket, shares, end.signal)));
      this.#served.set(containerId, { end, done });
    }
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    for (const id of [...this.#served.keys()]) {
      this.settle(id, []);
    }
    await Promise.all(this.#ending);
  }

  #leave({ end, done }: Served): void {
    end.abort();
    const ended = done.finally(() => this.#ending.delete(ended));
    this.#ending.add(ended);
  }

  async #serve(
    containerId: string,
    { path, full }: InnerSocket,
    shares: Shares,
    signal: AbortSignal,
  ): Promise<void> {
    const { services, transport, routes, version, logger } = this.#options;
    const server = new DockerApiServer({
      services: full
        ? { ...services, handOver: undefined }
        : ownServices(services, createBackendClients(actingTransport(transport, containerId))),
      limits: { working: 16, workingMs: 250, descriptors: 4 * mostConnections },
      longHeaders: this.#longHeaders,
      ...{ routes, version, logger },
    });
    const listener = server.createListener();
    const mayBegin = async (): Promise<boolean> => {
      try {
        await shares.begun.enter({ limitMs: 1_000, signal });
        // Containers take turns.
        await this.#begun.enter({ line: shares, order: () => 0, limitMs: whileOfAllMs, signal });
        return true;
      } catch {
        return false; // The container has ended.
      }
    };
    const accept = async (): Promise<void> => {
      let failures = 0;
      while (await mayBegin()) {
        const slot = await shares.connections.enter();
        try {
          const link = await this.#accepted(containerId, path, signal);
          failures = 0;
          void this.#join(link, listener, shares.room, signal).finally(() => slot[Symbol.dispose]());
        } catch (error) {
          slot[Symbol.dispose]();
          failures += 1;
          logger.debug(
            { err: error, container: containerId },
            `no connection of a container's Docker socket: ${messageOf(error)}`,
          );
          await this.#options.clock.sleep(pauseAfter(failures, pauses), signal).catch(() => {});
        }
      }
    };
    await Promise.all(Array.from({ length: waitingTunnels }, accept));
    await server.close();
  }

  /** Waits for the next connection of a container's process. */
  async #accepted(containerId: string, socket: string, signal: AbortSignal): Promise<StreamLink> {
    const { backend, agents, streams } = this.#options.services;
    const { endpoint } = await backend.containers.openTunnel(
      { container: containerId, access: agents.access },
      { signal },
    );
    const link = streams.open(
      agents.targetOf(endpoint),
      { kind: "tunnel", open: encodeTunnelOpen({ socket }) },
      "raw",
    );
    using _end = onAbort(signal, () => link.cancel());
    await link.opened;
    return link;
  }

  /** Joins a connection to the server; it ends with the container, or where there is no room. Never rejects. */
  async #join(
    link: StreamLink,
    listener: ReturnType<DockerApiServer["createListener"]>,
    room: RoomShare,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      using place = room.enter(() => link.cancel());
      if (place === undefined) {
        throw unavailable("containers have too many connections at their Docker sockets");
      }
      const socket = await connectionTo(listener);
      using _end = onAbort(signal, () => socket.destroy());
      try {
        await joinSocket(socket, link);
      } finally {
        socket.destroy();
      }
    } catch (error) {
      link.cancel();
      this.#options.logger.debug({ err: error }, `a connection of a Docker socket: ${messageOf(error)}`);
    }
  }
}

/** Services for a container's clients: all their calls are made on behalf of the container, and there is no builder. */
function ownServices(services: FrontendServices, backend: BackendClients): FrontendServices {
  const { clock, presence, streams, agents, publisher } = services;
  return {
    ...{ backend, clock, presence, streams, agents },
    // The containers that it makes may have such sockets, too.
    execEnds: new ExecEnds(backend.execs, undefined, mostConnections),
    pendingStarts: new PendingStarts(),
    openAttachments: new OpenAttachments(undefined, clock),
    handOver: undefined,
    isDebugging: false,
    publisher: publisher && {
      start: async (container, start) => {
        // Fails for a container that the client must not see.
        const { containerId } = await backend.containers.describePorts({ container });
        await publisher.start(containerId, start);
      },
    },
    startBuilder: undefined,
  };
}
