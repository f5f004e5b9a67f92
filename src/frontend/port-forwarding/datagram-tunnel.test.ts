import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { join } from "node:path";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { TunnelOpenSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { until } from "../../../test/support/until.ts";
import { datagramsHeader } from "../../agent-client/address.ts";
import { usualWindow } from "../../agent-client/client.ts";
import { onAbort } from "../../common/on-abort.ts";
import { DatagramQueue, openDatagramTunnel } from "./datagram-tunnel.ts";

const datagram = Buffer.alloc(60_000);

function push(queue: DatagramQueue): void {
  for (let count = 0; count < 64; count++) {
    queue.push(datagram);
  }
}

test("the datagrams that wait of all flows take 16 MiB, and one of each", () => {
  const queues = Array.from({ length: 300 }, () => new DatagramQueue());
  queues.forEach(push);
  const all = queues.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(all <= 16 * 1024 * 1024 + queues.length * 64 * 1024, `${all} bytes`);
  assert.ok(queues.every(({ bytes }) => bytes >= datagram.length));
  for (const queue of queues) {
    queue[Symbol.dispose]();
    queue.push(datagram);
    assert.equal(queue.bytes, 0);
  }
  using after = new DatagramQueue();
  push(after);
  assert.equal(after.bytes, 8 * datagram.length);
});

test("a datagram that was sent counts no more", async () => {
  using queue = new DatagramQueue();
  const requests = queue.requests({} as never, new AbortController().signal);
  await requests.next();
  for (let count = 0; count < 20; count++) {
    queue.push(datagram);
    await requests.next();
    assert.equal(queue.bytes, 0);
  }
});

test("an exchange whose place is being looked up ends as it is closed", async () => {
  const ended = Promise.withResolvers<unknown>();
  const flow = openDatagramTunnel({
    place: (closed) =>
      new Promise((_, reject) => {
        onAbort(closed, () => reject(new Error("it has left")));
      }),
    answer: () => {},
    ended: ended.resolve,
  });
  flow.send(datagram);
  flow.close();
  assert.equal(await ended.promise, undefined);
});

test("the exchanges of many clients take one connection to their agent, and each leaves it by itself", async (t) => {
  const path = join(scratchDirectory(), "agent.sock");
  const sessions: ServerHttp2Session[] = [];
  const calls: ServerHttp2Stream[] = [];
  const marks = new Set<unknown>();
  const agent = createServer().on("session", (session: ServerHttp2Session) => sessions.push(session));
  agent.on("stream", (call: ServerHttp2Stream, headers) => {
    marks.add(headers[datagramsHeader]);
    calls.push(call.on("error", () => {}).resume());
    call.respond({ ":status": 200, "content-type": "application/grpc+proto" });
  });
  agent.listen(path);
  await once(agent, "listening");
  t.after(() => {
    for (const session of sessions) {
      session.destroy();
    }
    agent.close();
  });
  const target = { address: { kind: "unix", path } } as const;
  const open = create(TunnelOpenSchema);
  const ends: unknown[] = [];
  const flows = Array.from({ length: 60 }, () =>
    openDatagramTunnel({
      place: async () => ({ target, open }),
      answer: () => {},
      ended: (error) => ends.push(error),
    }),
  );
  await until(() => calls.length === flows.length || undefined);
  assert.equal(sessions.length, 1);
  assert.deepEqual([...marks], ["1"]);
  assert.equal(sessions[0]?.remoteSettings.initialWindowSize, usualWindow);
  flows.pop()?.close();
  await until(() => calls.filter(({ closed }) => closed).length === 1 || undefined);
  calls.find(({ closed }) => !closed)?.close(2);
  await until(() => ends.length === 2 || undefined);
  assert.match(String(ends.find((error) => error !== undefined)), /the agent broke/);
  for (const flow of flows) {
    flow.close();
  }
  await until(() => calls.every(({ closed }) => closed) || undefined);
});
