/** A load balancer: it ends TLS, makes its own to the server, and drops connections on which nothing passes. */
import { once } from "node:events";
import { mkdtemp, readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";

import { makeCertificates } from "./certificates.ts";

/** A proxy. */
export interface TlsEndingProxy extends AsyncDisposable {
  /** `https://127.0.0.1:port` */
  readonly url: string;
  readonly port: number;
  /** How often a connection was dropped because nothing had passed. */
  readonly dropped: () => number;
  /** Milliseconds that the oldest open connection is there. */
  readonly oldestMs: () => number;
  /** Bytes that have come of clients, as the proxy reads them. */
  readonly seen: () => Buffer;
  /** Cuts all connections. */
  cut(): void;
  /** Passes nothing more on what is open, without a word to either side: neither hears that the other has gone. */
  stall(): void;
  /** Lets nobody through, or everybody again. */
  setOpen(isOpen: boolean): void;
}

/**
 * Starts one.
 *
 * @param directory for a directory of its certificate's
 * @param port of the server on loopback
 * @param host address on which it listens
 */
export async function startTlsEndingProxy(
  directory: string,
  port: number,
  { idleMs = 60_000, host = "127.0.0.1" } = {},
): Promise<TlsEndingProxy> {
  const { server: files } = await makeCertificates(await mkdtemp(join(directory, "proxy-")));
  const [key, cert] = await Promise.all([readFile(files.key), readFile(files.cert)]);
  const clients = new Map<TLSSocket, number>();
  const stalls = new Map<TLSSocket, () => void>();
  const seen: Buffer[] = [];
  let dropped = 0;
  let isOpen = true;
  const proxy = createServer({ key, cert }, (client) => {
    if (!isOpen) {
      client.on("error", () => {}).destroy();
      return;
    }
    clients.set(client, performance.now());
    const server = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
    client.on("data", (chunk: Buffer) => seen.push(chunk));
    client.setTimeout(idleMs, () => {
      dropped++;
      client.destroy();
    });
    client.pipe(server).pipe(client);
    stalls.set(client, () => {
      client.setTimeout(0);
      for (const end of [client, server]) {
        end.unpipe().pause();
      }
    });
    for (const end of [client, server]) {
      end.on("error", () => {});
      end.on("close", () => {
        clients.delete(client);
        stalls.delete(client);
        client.destroy();
        server.destroy();
      });
    }
  });
  proxy.on("tlsClientError", () => {});
  proxy.listen(0, host);
  await once(proxy, "listening");
  const cut = (): void => {
    for (const client of clients.keys()) {
      client.destroy();
    }
  };
  const { port: own } = proxy.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${own}`,
    port: own,
    dropped: () => dropped,
    oldestMs: () => Math.max(0, ...[...clients.values()].map((sinceMs) => performance.now() - sinceMs)),
    seen: () => Buffer.concat(seen),
    cut,
    stall: () => {
      for (const stall of stalls.values()) {
        stall();
      }
    },
    setOpen: (open) => {
      isOpen = open;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(proxy, "close");
      proxy.close();
      cut();
      await closed;
    },
  };
}
