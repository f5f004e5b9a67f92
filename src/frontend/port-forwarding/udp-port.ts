/** A published UDP port: each client has a flow of its own, so that answers reach the right client. */
import { createSocket } from "node:dgram";
import { once } from "node:events";

import type { BoundSocket } from "./port-binding.ts";
import type { RoomShare } from "../shared-room.ts";

/** One client's flow to the container. */
export interface DatagramFlow {
  send(datagram: Uint8Array): void;
  close(): void;
}

/**
 * Opens a flow.
 *
 * @param answer receives the container's datagrams
 * @param ended called once when the flow ends, for whatever reason
 */
export type OpenFlow = (answer: (datagram: Uint8Array) => void, ended: () => void) => DatagramFlow;

/** How long a flow lives without a datagram, as in dockerd. */
const idleMs = 90_000;
/** Maximum flows of one port: many clients ask once, each time from another port. */
const maxFlows = 1024;
/** How long a flow must have been silent to end for another one. */
const leastSilenceMs = 1_000;
/** Bytes of a port's answers that wait for a slow link; further ones are dropped. */
const mostUnsent = 256 * 1024;
/**
 * Bytes of answers that the kernel may hold, if the machine lets it (`net.core.wmem_max`): for each client that is gone from its
 * network it keeps some 200 KiB for three seconds, and others' answers wait where it takes no more.
 */
const sendBufferBytes = 32 * 1024 * 1024;

interface Flow {
  readonly way: DatagramFlow;
  readonly timer: NodeJS.Timeout;
  /** Ends it at once. */
  readonly end: () => void;
  /** When a datagram came or went last. */
  usedAt: number;
}

/**
 * Listens, and opens a flow for each client that sends. Of too many the one ends that has been silent for longest,
 * if that is long enough.
 *
 * @param port 0: any
 * @throws the error of the system, with its `code`
 */
export async function listenUdp(
  address: string,
  port: number,
  room: RoomShare,
  open: OpenFlow,
): Promise<BoundSocket> {
  const isIpv6 = address.includes(":");
  const socket = createSocket({ type: isIpv6 ? "udp6" : "udp4", ipv6Only: isIpv6 });
  /** By client, the longest silent first. */
  const flows = new Map<string, Flow>();
  let isClosed = false;

  const flowOf = (client: string, answer: (datagram: Uint8Array) => void): Flow | undefined => {
    const known = flows.get(client);
    if (known !== undefined) {
      return known;
    }
    const enter = (): Disposable | undefined =>
      flows.size < maxFlows ? room.enter(() => flows.get(client)?.end()) : undefined;
    let place = enter();
    const longest = flows.values().next().value;
    if (
      place === undefined &&
      longest !== undefined &&
      performance.now() - longest.usedAt >= leastSilenceMs
    ) {
      longest.end();
      place = enter();
    }
    if (place === undefined) {
      return undefined;
    }
    const held = place;
    let flow: Flow | undefined;
    const forget = (): void => {
      held[Symbol.dispose]();
      clearTimeout(flow?.timer);
      if (flows.get(client) === flow) {
        flows.delete(client);
      }
    };
    const way = open(answer, forget);
    const end = (): void => {
      forget();
      way.close();
    };
    flow = { way, timer: setTimeout(end, idleMs).unref(), end, usedAt: performance.now() };
    flows.set(client, flow);
    return flow;
  };

  const use = (client: string, flow: Flow): void => {
    if (flows.get(client) === flow) {
      flow.timer.refresh();
      flow.usedAt = performance.now();
      flows.delete(client);
      flows.set(client, flow);
    }
  };

  try {
    socket.bind({ address, port, exclusive: true });
    await once(socket, "listening");
    socket.setSendBufferSize(sendBufferBytes);
  } catch (error) {
    socket.close(); // Node keeps the descriptor of a socket that could not be bound.
    throw error;
  }
  socket.on("error", () => {}); // An answer that could not be sent is lost, as datagrams are.
  socket.on("message", (datagram, { address: host, port: from }) => {
    const client = `${host} ${from}`;
    const flow = flowOf(client, (answer) => {
      if (isClosed || flow === undefined) {
        return;
      }
      use(client, flow);
      if (socket.getSendQueueSize() <= mostUnsent) {
        socket.send(answer, from, host);
      }
    });
    if (flow !== undefined) {
      use(client, flow);
      flow.way.send(datagram);
    }
  });
  return {
    address,
    port: socket.address().port,
    close: () => {
      isClosed = true;
      socket.close();
      for (const { way } of flows.values()) {
        way.close();
      }
    },
  };
}
