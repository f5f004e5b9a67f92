import { once } from "node:events";
import type { Server as WebServer } from "node:http";
import type { AddressInfo, Server } from "node:net";
import type { TestContext } from "node:test";

/** Has a server listen on this machine alone. @returns its port */
export async function listenHere(server: Server): Promise<number> {
  await once(server.listen(0, "127.0.0.1"), "listening");
  return (server.address() as AddressInfo).port;
}

/** Has a web server listen on this machine alone until the test ends. @returns its port */
export async function listenDuring(
  t: Pick<TestContext, "after">,
  server: Pick<WebServer, "closeAllConnections"> & Server,
): Promise<number> {
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return await listenHere(server);
}
