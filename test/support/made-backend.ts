/** A backend that a test makes up, at a unix socket. */
import { once } from "node:events";
import { createServer, type ServerHttp2Session } from "node:http2";

import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

/** Serves it until the returned function ends it, without a word to its clients. */
export async function serveBackend(
  path: string,
  routes: (router: ConnectRouter) => void,
): Promise<() => void> {
  const sessions = new Set<ServerHttp2Session>();
  const jsonOptions = { useProtoFieldName: true, alwaysEmitImplicit: true };
  const server = createServer(connectNodeAdapter({ routes, jsonOptions }));
  server.on("session", (session) => sessions.add(session));
  server.listen(path);
  await once(server, "listening");
  return () => {
    server.close();
    for (const session of sessions) {
      session.destroy();
    }
  };
}
