/**
 * Routes of a published port's bytes into the container: directly to its address if this machine is admitted there,
 * else through its agent's tunnel.
 */
import type { Socket } from "node:net";

import { create } from "@bufbuild/protobuf";

import type { DialTarget } from "../../agent-client/address.ts";
import { encodeTunnelOpen } from "../../agent-client/tunnel.ts";
import { messageOf } from "../../common/errors.ts";
import { forgetOldest } from "../../common/forget-oldest.ts";
import type { Logger } from "../../common/logger.ts";
import {
  TransportProtocol,
  type TunnelOpen,
  TunnelOpenSchema,
} from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { BackendClients } from "../backend/clients.ts";
import { Slots } from "../http/slots.ts";
import type { AgentTargets } from "../streams/agent-targets.ts";
import { prepareForStreaming } from "../streams/client-socket.ts";
import type { StreamLink } from "../streams/stream-link.ts";
import type { StreamPool } from "../streams/stream-pool.ts";
import { connectDirectly, joinDirectly } from "./direct-connection.ts";
import { openDatagramTunnel } from "./datagram-tunnel.ts";
import { dismiss } from "./tcp-port.ts";
import type { DatagramFlow } from "./udp-port.ts";

/** Maximum concurrent calls to the backend for published ports, so that many connections there do not delay the API. */
const mostCalls = 16;
/** Maximum of these for one port, so that it does not delay the others. */
const mostCallsOfPort = 4;
/** Maximum number of remembered unreachable addresses. */
const maxRemembered = 10_000;

/** Dependencies of tunnels. */
export interface TunnelServices {
  readonly backend: Pick<BackendClients, "containers">;
  readonly streams: Pick<StreamPool, "open">;
  readonly agents: Pick<AgentTargets, "access" | "targetOf">;
  readonly logger: Logger;
}

/** A published port of a container. */
export interface ContainerPort {
  readonly containerId: string;
  readonly port: number;
  /** Slots of the port's connections for calls to the backend. */
  readonly turns: Slots;
}

interface Place {
  readonly target: DialTarget;
  readonly open: TunnelOpen;
  /** True if this machine may reach the container's network directly. */
  readonly near: boolean;
}

/** Tunnels to containers' ports. */
export class ContainerTunnels {
  readonly #services: TunnelServices;
  /** Addresses that were unreachable. Bounded: a container that starts again may get the same address. */
  readonly #unreachable = new Set<string>();
  readonly #calls = new Slots(mostCalls);

  constructor(services: TunnelServices) {
    this.#services = services;
  }

  /** Adds a port that is published. */
  portOf(containerId: string, port: number): ContainerPort {
    return { containerId, port, turns: new Slots(mostCallsOfPort) };
  }

  /**
   * Joins an accepted connection to a port of a container. Each direction ends separately. If the container's side
   * breaks, the client's connection is reset; if nobody listens there, it is closed.
   */
  async connect(socket: Socket, to: ContainerPort): Promise<void> {
    prepareForStreaming(socket);
    let isJoined: boolean = false;
    const left = new AbortController();
    socket.once("close", () => left.abort());
    try {
      const { target, open, near } = await this.#place(to, TransportProtocol.TCP, left.signal);
      const direct = near ? await this.#connectDirectly(open) : undefined;
      if (direct !== undefined) {
        isJoined = true;
        await joinDirectly(socket, direct);
        return;
      }
      const link = this.#services.streams.open(
        target,
        { kind: "tunnel", open: encodeTunnelOpen(open) },
        "raw",
      );
      const joined = joinSocket(socket, link);
      await Promise.race([link.opened, joined]);
      isJoined = true;
      await joined;
    } catch (error) {
      this.#services.logger.debug(
        { err: error, container: to.containerId, port: to.port },
        `a connection to a published port has failed: ${messageOf(error)}`,
      );
      if (isJoined) {
        socket.resetAndDestroy();
      } else {
        dismiss(socket);
      }
    }
  }

  async #connectDirectly({ host, port }: TunnelOpen): Promise<Socket | undefined> {
    const address = `${host} ${port}`;
    if (this.#unreachable.has(address)) {
      return undefined;
    }
    const direct = await connectDirectly(host, port);
    if (direct === undefined) {
      this.#unreachable.add(address);
      forgetOldest(this.#unreachable, maxRemembered);
    }
    return direct;
  }

  /** Opens one client's flow to a UDP port. Datagrams are lost if it is unreachable. */
  openFlow(to: ContainerPort, answer: (datagram: Uint8Array) => void, ended: () => void): DatagramFlow {
    return openDatagramTunnel({
      place: (closed) => this.#place(to, TransportProtocol.UDP, closed),
      answer,
      ended: (error) => {
        if (error !== undefined) {
          this.#services.logger.debug(
            { err: error, container: to.containerId, port: to.port },
            `datagrams to a published port are lost: ${messageOf(error)}`,
          );
        }
        ended();
      },
    });
  }

  /** @param signal aborts once it has lost its slot, or has ended */
  async #place(
    { containerId, port, turns }: ContainerPort,
    protocol: TransportProtocol,
    signal: AbortSignal,
  ): Promise<Place> {
    const { backend, agents } = this.#services;
    using _turn = await turns.enter({ signal });
    using _call = await this.#calls.enter({ signal });
    const asked = { container: containerId, access: agents.access };
    const { endpoint, host } = await backend.containers.openTunnel(asked, { signal });
    return {
      target: agents.targetOf(endpoint),
      open: create(TunnelOpenSchema, { protocol, host, port }),
      near: endpoint?.address.case === "tcp",
    };
  }
}

/** Copies both ways until both directions have ended. @throws StreamError if the tunnel broke or the client left */
export async function joinSocket(socket: Socket, link: StreamLink): Promise<void> {
  socket.on("data", (chunk: Buffer) => {
    if (!link.write(chunk)) {
      socket.pause();
    }
  });
  socket.once("end", () => link.endInput());
  socket.once("close", (hadError) => {
    // A socket also closes when both its directions have ended, perhaps with input still in flight.
    if (hadError || !socket.readableEnded) {
      link.cancel();
    }
  });
  link.onDrain(() => socket.resume());
  link.onOutputEnd(() => socket.end());
  link.pipeTo((chunk, written) => {
    socket.write(chunk, () => written());
  });
  if (socket.destroyed) {
    link.cancel();
  }
  socket.resume();
  await link.ended;
}
