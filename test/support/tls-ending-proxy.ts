/** A load balancer: it ends TLS, makes its own to the server, and drops connections on which nothing passes. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";

import { makeCertificates } from "./certificates.ts";

/** A proxy. */
export interface TlsEndingProxy extends AsyncDisposable {
  /** `https://127.0.0.1:port` */
  readonly url: string;
  /** How often a connection was dropped because nothing had passed. */
  readonly dropped: () => number;
  /** Milliseconds that the oldest open connection is there. */
  readonly oldestMs: () => number;
  /** Bytes that have come of clients, as the proxy reads them. */
  readonly seen: () => Buffer;
  /** Cuts all connections. */
  cut(): void;
}

/**
 * Starts one on loopback.
 *
 * @param directory for its certificate
 * @param port of the server on loopback
 */
export async function startTlsEndingProxy(
  directory: string,
  port: number,
  idleMs = 60_000,
): Promise<TlsEndingProxy> {
  const { server: files } = await makeCertificates(directory);
  const [key, cert] = await Promise.all([readFile(files.key), readFile(files.cert)]);
  const clients = new Map<TLSSocket, number>();
  const seen: Buffer[] = [];
  let dropped = 0;
  const proxy = createServer({ key, cert }, (client) => {
    clients.set(client, performance.now());
    const server = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
    client.on("data", (chunk: Buffer) => seen.push(chunk));
    client.setTimeout(idleMs, () => {
      dropped++;
      client.destroy();
    });
    client.pipe(server).pipe(client);
    for (const end of [client, server]) {
      end.on("error", () => {});
      end.on("close", () => {
        clients.delete(client);
        client.destroy();
        server.destroy();
      });
    }
  });
  proxy.on("tlsClientError", () => {});
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const cut = (): void => {
    for (const client of clients.keys()) {
      client.destroy();
    }
  };
  return {
    url: `https://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    dropped: () => dropped,
    oldestMs: () => Math.max(0, ...[...clients.values()].map((sinceMs) => performance.now() - sinceMs)),
    seen: () => Buffer.concat(seen),
    cut,
    async [Symbol.asyncDispose]() {
      const closed = once(proxy, "close");
      proxy.close();
      cut();
      await closed;
    },
  };
}
