/** A published TCP port. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

import { backlog } from "../../common/listen.ts";
import { joinedHighWaterMark as highWaterMark } from "../../common/pack-waiting.ts";
import type { BoundSocket } from "./port-binding.ts";
import type { RoomShare } from "../shared-room.ts";

/** Joins an accepted connection to the container. Takes ownership of the socket and never rejects. */
export type ServeConnection = (socket: Socket) => Promise<void>;

/**
 * Listens, and hands over each connection that there is room for.
 *
 * @param port 0: any
 * @throws the error of the system, with its `code`
 */
export async function listenTcp(
  address: string,
  port: number,
  room: RoomShare,
  serve: ServeConnection,
): Promise<BoundSocket> {
  const connections = new Set<Socket>();
  // Each direction ends separately, and nothing is read before the other side is open.
  const options = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true, highWaterMark };
  const server = createServer(options, (socket) => {
    socket.on("error", () => {}); // "close" follows.
    const place = room.enter(() => socket.destroy());
    if (place === undefined) {
      socket.destroy();
      return;
    }
    connections.add(socket);
    socket.once("close", () => {
      connections.delete(socket);
      place[Symbol.dispose]();
    });
    void serve(socket);
  });
  server.listen({ host: address, port, backlog, ipv6Only: address.includes(":") });
  await once(server, "listening");
  server.on("error", () => {}); // One connection could not be accepted; the next may be.
  return {
    address,
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      for (const socket of connections) {
        socket.destroy();
      }
    },
  };
}

/** How long a client may take to close when nobody listens in the container. */
const dismissalMs = 2_000;

/**
 * Closes a connection without a reset, which clients that wait for a port take for an error. Bytes that they send are
 * read, as unread ones would cause a reset.
 */
export function dismiss(socket: Socket): void {
  if (socket.destroyed) {
    return;
  }
  const timer = setTimeout(() => socket.destroy(), dismissalMs);
  socket.once("close", () => clearTimeout(timer));
  socket.resume();
  socket.end();
}
