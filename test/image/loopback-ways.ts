/**
 * Ways from containers to what a simulated cloud serves on this machine's loopback interface: a real cloud's services and
 * registries have addresses that containers reach.
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** The end of a way. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

/** Passes connections on. @param host address of this machine, at which it listens */
export async function openWay(host: string, port: number, target: Target): Promise<AsyncDisposable> {
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const dialled = connect(target);
    for (const [from, to] of [
      [client, dialled],
      [dialled, client],
    ] as const) {
      open.add(from);
      from.once("close", () => {
        open.delete(from);
        to.destroy();
      });
      from.on("error", () => to.destroy());
      from.pipe(to);
    }
  });
  server.listen(port, host);
  await once(server, "listening");
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const each of open) {
        each.destroy();
      }
      await closed;
    },
  };
}

/** Node's script for a container beside the one whose loopback interface it shares: there, each port leads to a way. */
export function wayWithin(host: string, ports: readonly number[]): string {
  return `const { connect, createServer } = require("node:net");
for (const port of ${JSON.stringify(ports)}) {
  createServer((client) => {
    const target = connect({ host: ${JSON.stringify(host)}, port });
    client.on("error", () => target.destroy()).pipe(target);
    target.on("error", () => client.destroy()).pipe(client);
  }).listen(port, "127.0.0.1");
}
process.once("SIGTERM", () => process.exit());`;
}
