/** Clients that speak plain HTTP to a TLS port: they are told, as by Go's server, rather than cut. */
import type { Server } from "node:https";
import type { Socket } from "node:net";

const answer =
  "HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/** An HTTP request begins with the letters of its method; a TLS record with a byte that is none. */
const isLetter = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x41 && byte <= 0x5a;

/**
 * Has a TLS listener, which takes connections as they come, get them once their first bytes are there and are no HTTP
 * request. To be called before other listeners for connections are added, one of which bounds those that say nothing, and
 * those that do not leave with their answer.
 */
export function refusePlainHttp(listener: Server): void {
  const takeOver = listener.listeners("connection");
  listener.removeAllListeners("connection");
  listener.on("connection", (socket: Socket) => {
    const gone = (): void => void socket.destroy();
    socket.once("error", gone);
    socket.once("readable", () => {
      socket.off("error", gone);
      const first = socket.read() as Buffer | null;
      if (first === null) {
        socket.destroy(); // It left without a word.
      } else if (isLetter(first[0])) {
        socket.on("error", gone);
        socket.resume();
        socket.end(answer);
      } else {
        socket.unshift(first);
        for (const listen of takeOver) {
          listen.call(listener, socket);
        }
      }
    });
  });
}
