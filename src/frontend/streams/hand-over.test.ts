import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test, type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";
import { MessageChannel, type MessagePort } from "node:worker_threads";

import { create } from "@bufbuild/protobuf";

import { builtPrograms } from "../../common/built-programs.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { packWaiting } from "../../common/pack-waiting.ts";
import { createLogger } from "../../common/logger.ts";
import { AgentEndpointSchema } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import { until, untilTrue } from "../../../test/support/until.ts";
import { HandOver } from "./hand-over.ts";
import { StreamLink } from "./stream-link.ts";
import { streamToClient } from "./stream-to-client.ts";
import type { FromWorker, ToWorker } from "./thread-messages.ts";

const logger = createLogger({ level: "silent", process: "test" });
const endpoint = create(AgentEndpointSchema, { address: { case: "unixPath", value: "/nowhere" } });

async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "skl-hand-over-"));
  t.after(() => rm(directory, { recursive: true }));
  return directory;
}

/** A client's end of a connection and the frontend's, on a unix socket, with the server that has accepted it. */
async function connected(t: TestContext, path: string) {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(path);
  await once(server, "listening");
  const client = connect({ path, allowHalfOpen: true });
  const [socket] = (await once(server, "connection")) as [Socket];
  packWaiting(socket); // As the API's server does.
  t.after(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  return { client, socket, server };
}

function forwarderOf(t: TestContext, program = builtPrograms.agent): HandOver {
  const handOver = new HandOver(program, "/nowhere", logger);
  t.after(() => handOver.close());
  return handOver;
}

/** A stream that is open, with an offer, and its worker's end. */
function offered(
  t: TestContext,
  socket: string,
): { readonly link: StreamLink; readonly worker: MessagePort } {
  const { port1, port2 } = new MessageChannel();
  t.after(() => port2.close());
  const link = new StreamLink(port1, new Promise(() => {}), new ByteBudget(1024));
  tell(port2, { type: "offered", offer: { socket, token: "t" } });
  tell(port2, { type: "opened", opened: { kind: "session", pid: 1, tty: false } });
  return { link, worker: port2 };
}

const tell = (worker: MessagePort, message: FromWorker): void => worker.postMessage(message);

/** A stream that an agent has taken, which does nothing with it, as it is shown to a client. */
async function handed(t: TestContext) {
  const directory = await temporaryDirectory(t);
  let received = "";
  const agent = createServer((connection) => connection.on("data", (bytes) => (received += String(bytes))));
  const agentSocket = join(directory, "agent");
  agent.listen(agentSocket);
  await once(agent, "listening");
  t.after(() => agent.close());
  const handOver = forwarderOf(t);
  const { client, socket, server } = await connected(t, join(directory, "client"));
  socket.push(Buffer.from("early, "));
  await nextTurn();
  socket.push(Buffer.from("late"));
  const { link, worker } = offered(t, agentSocket);
  await link.opened;
  agent.once("connection", () => tell(worker, { type: "handed" }));
  const told: string[] = [];
  const ends = {
    onExit: (code: number) => Promise.resolve(void told.push(`exit ${code}`)),
    onCut: () => Promise.resolve(told.push("cut") === 0),
  };
  const { signal } = new AbortController();
  const context = { logger, signal, keepTurn: () => {}, services: { handOver } };
  const onDetach = (): Promise<void> => Promise.resolve();
  await streamToClient(context, socket, link, { stdin: true, multiplexed: false, ...ends, onDetach });
  return { agent, client, server, worker, told, received: () => received };
}

const lost = {
  type: "failed",
  failure: { kind: "unavailable", message: "the agent was silent", exitCode: 0 },
} as const;

test("whoever takes a connection has all that was read of it", async (t) => {
  const { received } = await handed(t);
  await untilTrue(() => received().includes("early, late"));
});

test("a forwarder that cannot be spawned leaves every connection to the workers", async (t) => {
  const directory = await temporaryDirectory(t);
  await writeFile(join(directory, "file"), "");
  const { socket } = await connected(t, join(directory, "client"));
  for (const program of [join(directory, "file", "below"), join(directory, "missing")]) {
    const handOver = forwarderOf(t, program);
    assert.equal(handOver.mayTake(socket, endpoint), false, program);
  }
});

test("what was written to a client is told to be read once it is, also where nothing is handed on", async (t) => {
  const directory = await temporaryDirectory(t);
  const handOver = new HandOver(builtPrograms.agent, undefined, logger);
  t.after(() => handOver.close());
  const { client, socket } = await connected(t, join(directory, "client"));
  assert.equal(handOver.mayTake(socket, endpoint), false);
  socket.write("header");
  const told = handOver.isRead(socket);
  const [header] = (await once(client, "data")) as [Buffer];
  assert.equal(header.toString(), "header");
  assert.equal(await told, true);
  client.end("as ever");
  socket.end("the rest");
  assert.deepEqual([await text(client), await text(socket)], ["the rest", "as ever"]);
  assert.equal(await handOver.isRead(socket), false, "it is closed");
});

test("nobody tells what a client has read where its forwarder is gone, or it is on a network", async (t) => {
  const directory = await temporaryDirectory(t);
  const { socket } = await connected(t, join(directory, "client"));
  const handOver = forwarderOf(t, join(directory, "missing"));
  assert.equal(await handOver.isRead(socket), false);
  const far = createServer().listen(0, "127.0.0.1");
  t.after(() => far.close());
  await once(far, "listening");
  const client = connect((far.address() as AddressInfo).port);
  t.after(() => client.destroy());
  await once(client, "connect");
  assert.equal(await forwarderOf(t).isRead(client), false);
});

test("a forwarder that is stuck keeps no client waiting", async (t) => {
  const directory = await temporaryDirectory(t);
  const pidFile = join(directory, "pid");
  const program = join(directory, "program");
  await writeFile(
    program,
    `#!/bin/sh\necho $$ > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; exec sleep 130\n`,
    {
      mode: 0o700,
    },
  );
  const handOver = forwarderOf(t, program);
  const { socket } = await connected(t, join(directory, "client"));
  try {
    assert.equal(await handOver.isRead(socket), false);
  } finally {
    await until(() => existsSync(pidFile) || undefined);
    handOver.close();
    process.kill(Number(await readFile(pidFile, "utf8")));
  }
});

test("a forwarder that leaves its channel while it lives has a successor", async (t) => {
  const directory = await temporaryDirectory(t);
  const pidFile = join(directory, "pid");
  const program = join(directory, "program");
  const script = `#!/bin/sh
if mkdir ${directory}/first; then
  echo $$ > ${pidFile}
  eval "exec $NODE_CHANNEL_FD>&-"
  exec sleep 130
fi
: > ${directory}/second
exec ${builtPrograms.agent} "$@"
`;
  await writeFile(program, script, { mode: 0o700 });
  const handOver = forwarderOf(t, program);
  const { socket } = await connected(t, join(directory, "client"));
  await until(() => existsSync(join(directory, "second")) || undefined);
  process.kill(Number(await readFile(pidFile, "utf8")));
  assert.ok(handOver.mayTake(socket, endpoint));
});

test("a request whose output is lost is told to the next forwarder as such", async (t) => {
  const directory = await temporaryDirectory(t);
  const [pidFile, told, program] = [
    join(directory, "pid"),
    join(directory, "told"),
    join(directory, "program"),
  ];
  const noteFirst = `process.once("message", (m) => fs.writeFileSync("${told}", JSON.stringify(m)))`;
  const script = `#!/bin/sh
if mkdir ${directory}/first; then
  echo $$ > ${pidFile}
  exec ${builtPrograms.agent} "$@"
fi
exec ${process.execPath} -e '${noteFirst}'
`;
  await writeFile(program, script, { mode: 0o700 });
  const handOver = forwarderOf(t, program);
  const { socket } = await connected(t, join(directory, "client"));
  const request = await handOver.guard(socket, { container: "name", farewell: Buffer.from("lost") });
  request.begun();
  request.served();
  process.kill(Number(await readFile(pidFile, "utf8")), "SIGKILL");
  const message = await until(() => (existsSync(told) && readFileSync(told, "utf8")) || undefined);
  const { guard } = JSON.parse(message) as { readonly guard: object };
  assert.deepEqual(guard, { container: "name", attached: false, farewell: "", served: true });
});

test("a forwarder that fails says why, in an object a line", async () => {
  const forwarder = spawn(builtPrograms.agent, ["forwarder"], { stdio: ["ignore", "ignore", "pipe", "ipc"] });
  assert.ok(forwarder.stderr !== null);
  forwarder.send({ cmd: "NODE_HANDLE" });
  const { level, error } = JSON.parse(await text(forwarder.stderr)) as Record<string, unknown>;
  assert.deepEqual([level, error], ["ERROR", "a message came without its descriptor"]);
});

for (const ends of ["before", "behind"] as const) {
  test(`a connection that nobody takes stays, with all that its client sends and its end, ${ends} the attempt`, async (t) => {
    const directory = await temporaryDirectory(t);
    const handOver = forwarderOf(t);
    const { client, socket } = await connected(t, join(directory, "client"));
    const { link, worker } = offered(t, join(directory, "nobody"));
    const told: string[] = [];
    const inputEnded = new Promise<void>((resolve) => {
      worker.on("message", (message: ToWorker) => {
        const { type } = message;
        told.push(type === "input" ? Buffer.concat(message.chunks).toString() : type);
        if (type === "keep" && ends === "behind") {
          client.end("late");
        } else if (type === "input-end") {
          resolve();
        }
      });
    });
    await link.opened;
    assert.ok(handOver.mayTake(socket, endpoint));
    await sendEarly(client, socket, ends);
    const { signal } = new AbortController();
    const context = { logger, signal, keepTurn: () => {}, services: { handOver } };
    const onDetach = (): Promise<void> => Promise.resolve();
    const over = streamToClient(context, socket, link, { stdin: true, multiplexed: false, onDetach });
    await inputEnded;
    assert.deepEqual([told[0], told.slice(1, -1).join("")], ["keep", "early, more, late"]);
    tell(worker, { type: "ended", outcome: { kind: "exit", exitCode: 0 } });
    await over;
    assert.equal(await text(client), "");
  });
}

for (const ends of ["before", "behind"] as const) {
  test(`a connection that nobody takes away has its request's body from the beginning, ended ${ends} the attempt`, async (t) => {
    const directory = await temporaryDirectory(t);
    const handOver = forwarderOf(t);
    const { client, socket } = await connected(t, join(directory, "client"));
    assert.ok(handOver.mayTake(socket, endpoint));
    await sendEarly(client, socket, ends);
    const early = await handOver.give(socket, { socket: join(directory, "nobody"), token: "t" });
    assert.ok(early !== undefined);
    socket.unshift(early);
    socket.unshift("header, ");
    if (ends === "behind") {
      client.end("late");
    }
    assert.equal(await text(socket), "header, early, more, late");
  });
}

/** Sends what is read before the attempt to hand over, with the end or without it. */
async function sendEarly(client: Socket, socket: Socket, ends: "before" | "behind"): Promise<void> {
  client.write("early, ");
  socket.read(0);
  await until(() => socket.readableLength > 0 || undefined);
  socket.push(Buffer.from("more, "));
  if (ends === "before") {
    client.end("late");
    await until(
      () => (socket.readableLength === "early, more, late".length && isEndRead(socket)) || undefined,
    );
  }
}

/** True once the client's end was read, though not what came before it. */
const isEndRead = (socket: Socket): boolean =>
  (socket as unknown as { readonly _readableState: { readonly ended: boolean } })._readableState.ended;

test("Node asks no forwarder about a connection that was handed on, and counts it as its own", async (t) => {
  const { client, server, worker } = await handed(t);
  const countOf = promisify(server.getConnections.bind(server));
  assert.equal(await countOf(), 1);
  tell(worker, { type: "ended", outcome: { kind: "exit", exitCode: 0 } });
  await text(client);
  await untilTrue(async () => (await countOf()) === 0);
  const closed = once(server, "close");
  server.close();
  await closed;
});

test("an exit that a handed stream tells is settled for who asks next", async (t) => {
  const { client, worker, told } = await handed(t);
  tell(worker, { type: "ended", outcome: { kind: "exit", exitCode: 7 } });
  assert.equal(await text(client), "");
  assert.deepEqual(told, ["exit 7"]);
});

test("a frontend that loses sight of a handed stream writes nothing to it while the agent lives", async (t) => {
  const { client, worker, told } = await handed(t);
  tell(worker, lost);
  assert.equal(await text(client), "");
  assert.deepEqual(told, []);
});

test("the client of an agent that has died is told", async (t) => {
  const { agent, client, worker, told } = await handed(t);
  agent.close();
  tell(worker, lost);
  assert.equal(await text(client), "the agent was silent\r\n");
  assert.deepEqual(told, ["cut"]);
});
