/** A company's proxy: nobody gets out but through its CONNECT, and it decides where each name leads. */
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { listenHere } from "./listen-here.ts";

/** A proxy, and whom it was asked for. */
export interface ConnectProxy extends AsyncDisposable {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  /** `host:port` of each CONNECT. */
  readonly asked: readonly string[];
}

/**
 * Starts one on loopback.
 *
 * @param placeOf the port on this machine where a host really is
 */
export async function startConnectProxy(placeOf: (host: string) => number): Promise<ConnectProxy> {
  const asked: string[] = [];
  const open = new Set<Duplex>();
  const proxy = createServer((_request, response) => response.writeHead(405).end());
  proxy.on("connect", ({ url = "" }, client: Duplex) => {
    asked.push(url);
    const server = connect(placeOf(url.replace(/:\d+$/, "")), "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      client.pipe(server).pipe(client);
    });
    for (const end of [client, server]) {
      open.add(end);
      end
        .on("error", () => {})
        .on("close", () => {
          open.delete(end);
          client.destroy();
          server.destroy();
        });
    }
  });
  const port = await listenHere(proxy);
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      const closed = once(proxy, "close");
      proxy.close();
      for (const end of open) {
        end.destroy();
      }
      await closed;
    },
  };
}
