/** A connection within this process. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { Server as HttpServer } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Connects to a server that does not listen: it gets the other end of the connection, an ordinary socket.
 *
 * @param server accepts connections by its `connection` event, like those of node:http
 */
export async function connectionTo(server: Pick<HttpServer, "emit">): Promise<Socket> {
  const directory = await mkdtemp(join(tmpdir(), "skl-pair-")); // Its mode is 0700, so that nobody else can connect.
  const pairing = createServer({ allowHalfOpen: true }, (end) => {
    server.emit(
      "connection",
      end.on("error", () => {}),
    );
  });
  try {
    const path = join(directory, "s");
    pairing.listen(path);
    await once(pairing, "listening");
    const accepted = once(pairing, "connection");
    const socket = connect({ path, allowHalfOpen: true });
    await Promise.all([once(socket, "connect"), accepted]);
    socket.on("error", () => {}); // The server may end first, and "close" tells of it.
    return socket;
  } finally {
    pairing.close();
    await rm(directory, { recursive: true, force: true });
  }
}
