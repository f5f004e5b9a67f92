/**
 * How fast streams go through the frontend: MB/s and CPU seconds per GiB of this process, and the time of one keystroke
 * there and back. The agent (a synthetic gRPC server on raw HTTP/2) and the Docker client are in a process of their own.
 *
 *   node dist/test/bench/streams.js [MiB]
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MessageChannel } from "node:worker_threads";

import { encodeOpenExec } from "../../src/agent-client/session.ts";
import { joinClient, prepareForStreaming } from "../../src/frontend/streams/client-socket.ts";
import { ConnectionPool } from "../../src/agent-client/connection-pool.ts";
import { ByteBudget } from "../../src/common/byte-budget.ts";
import { BufferSupply } from "../../src/frontend/streams/output-buffers.ts";
import { StreamLink } from "../../src/frontend/streams/stream-link.ts";
import { StreamPool } from "../../src/frontend/streams/stream-pool.ts";
import type { Framing } from "../../src/frontend/streams/thread-messages.ts";
import { runStream } from "../../src/frontend/streams/worker-stream.ts";
import type { PeerReport, PeerTask } from "./stream-peer.ts";

const mebibyte = 1024 * 1024;
const keystrokes = 2000;

/** Opens streams as the pool does, but in this thread: what a worker costs and what it is worth. */
const withoutWorker: Pick<StreamPool, "open"> = {
  open: (target, operation, framing) => {
    const { port1, port2 } = new MessageChannel();
    const task = { target, operation, framing, handOver: false, requestId: undefined, port: port2 };
    void runStream(task, resources);
    return new StreamLink(port1, new Promise(() => {}), budget());
  },
};
const budget = () => new ByteBudget(32 * 1024 * 1024);
const resources = { connections: new ConnectionPool(budget()), supply: new BufferSupply(32, budget()) };

/** One client's connection, joined to one session of the agent. */
async function measure(
  pool: Pick<StreamPool, "open">,
  peer: ChildProcess,
  sockets: { readonly agent: string; readonly listener: AsyncIterator<Socket> },
  task: PeerTask,
  framing: Framing,
): Promise<{ readonly seconds: number; readonly cpuSeconds: number; readonly report: PeerReport }> {
  const reported = once(peer, "message") as Promise<[PeerReport]>;
  peer.send(task);
  const { value: socket } = (await sockets.listener.next()) as { value: Socket };
  prepareForStreaming(socket);
  const operation = {
    kind: "session",
    open: encodeOpenExec({}),
    carriesInput: true,
    detachKeys: new Uint8Array(),
  } as const;
  const link = pool.open({ address: { kind: "unix", path: sockets.agent } }, operation, framing);
  await link.opened;
  const cpu = process.cpuUsage();
  const start = performance.now();
  await joinClient(socket, link, { stdin: true, signal: new AbortController().signal });
  socket.end();
  const [report] = await reported;
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, cpuSeconds: (user + system) / 1e6, report };
}

async function* connectionsOf(path: string): AsyncGenerator<Socket> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const waiting: Socket[] = [];
  let arrived = Promise.withResolvers<void>();
  server.on("connection", (socket) => {
    waiting.push(socket);
    arrived.resolve();
  });
  server.listen(path);
  try {
    for (;;) {
      const socket = waiting.shift();
      if (socket === undefined) {
        await arrived.promise;
        arrived = Promise.withResolvers();
      } else {
        yield socket;
      }
    }
  } finally {
    server.close();
  }
}

const megabytes = Number(process.argv[2] ?? 2048);
const directory = await mkdtemp(join(tmpdir(), "sockerless-bench-"));
const agent = join(directory, "agent.sock");
const client = join(directory, "client.sock");
const listener = connectionsOf(client);
const pool = new StreamPool();
const peer = fork(new URL("./stream-peer.js", import.meta.url), [agent, client]);
try {
  const firstConnection = listener.next();
  await once(peer, "message");
  // The listener runs once somebody waits on it; the peer's first connection only shows that it does.
  (await firstConnection).value.destroy();
  const bytes = megabytes * mebibyte;
  const rows: Record<string, Record<string, number>> = {};
  const keys: string[] = [];
  for (const [where, streams] of [
    ["worker", pool],
    ["no worker", withoutWorker],
  ] as const) {
    for (const [name, task, framing] of [
      ["stdout, frames", { kind: "output", bytes }, "multiplexed"],
      ["stdout, terminal", { kind: "output", bytes }, "raw"],
      ["stdin", { kind: "input", bytes }, "raw"],
    ] as const) {
      const { seconds, cpuSeconds } = await measure(streams, peer, { agent, listener }, task, framing);
      rows[`${name}, ${where}`] = {
        "MB/s": Math.round(bytes / 1e6 / seconds),
        "CPU s per GiB": Number(((cpuSeconds * 1024) / megabytes).toFixed(2)),
      };
    }
    const echo: PeerTask = { kind: "echo", keystrokes };
    const { report } = await measure(streams, peer, { agent, listener }, echo, "raw");
    keys.push(`${report.medianMs.toFixed(2)} ms (${where})`);
  }
  console.table(rows);
  console.log(`one keystroke there and back, median of ${keystrokes}: ${keys.join(", ")}`);
} finally {
  peer.kill();
  await pool.close();
  resources.connections.close();
  await listener.return(undefined);
  await rm(directory, { recursive: true });
}
