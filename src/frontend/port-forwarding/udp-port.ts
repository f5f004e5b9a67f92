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
/** Maximum flows of one port; datagrams of further clients are dropped. */
const maxFlows = 1024;
/** Bytes of a port's answers that wait for a slow link; further ones are dropped. */
const mostUnsent = 256 * 1024;

interface Flow {
  readonly way: DatagramFlow;
  readonly timer: NodeJS.Timeout;
}

/**
 * Listens, and opens a flow for each client that sends, if there is room for it.
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
  const flows = new Map<string, Flow>();
  let isClosed = false;

  const flowOf = (client: string, answer: (datagram: Uint8Array) => void): Flow | undefined => {
    const known = flows.get(client);
    if (known !== undefined || flows.size >= maxFlows) {
      return known;
    }
    const place = room.enter(() => flows.get(client)?.way.close());
    if (place === undefined) {
      return undefined;
    }
    const forget = (): void => {
      place[Symbol.dispose]();
      const flow = flows.get(client);
      clearTimeout(flow?.timer);
      flows.delete(client);
    };
    const way = open(answer, forget);
    const flow = { way, timer: setTimeout(() => way.close(), idleMs).unref() };
    flows.set(client, flow);
    return flow;
  };

  try {
    socket.bind({ address, port, exclusive: true });
    await once(socket, "listening");
  } catch (error) {
    socket.close(); // Node keeps the descriptor of a socket that could not be bound.
    throw error;
  }
  socket.on("error", () => {}); // An answer that could not be sent is lost, as datagrams are.
  socket.on("message", (datagram, { address: host, port: from }) => {
    const flow = flowOf(`${host} ${from}`, (answer) => {
      if (isClosed) {
        return;
      }
      flow?.timer.refresh();
      if (socket.getSendQueueSize() <= mostUnsent) {
        socket.send(answer, from, host);
      }
    });
    flow?.timer.refresh();
    flow?.way.send(datagram);
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
