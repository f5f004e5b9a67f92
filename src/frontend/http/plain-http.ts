/**
 * Clients that speak plain HTTP to a TLS port: they get an error, as from Go's server, instead of a closed connection.
 */
import type { Server } from "node:https";
import type { Socket } from "node:net";

const answer =
  "HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/** An HTTP request begins with the letters of its method; a TLS record with a byte that is none. */
const isLetter = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x41 && byte <= 0x5a;

/**
 * Passes connections to a TLS listener only once their first bytes have arrived and are not an HTTP request. To be
 * called before other listeners for connections are added: one of them bounds connections that stay silent, or stay
 * open after their answer.
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
        socket.destroy(); // The client left without sending anything.
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
