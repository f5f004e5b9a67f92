import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { LogsResponseSchema } from "../gen/sockerless/agent/v1/agent_pb.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";
import { agentLog } from "./agent-log.ts";

function response(init: MessageInitShape<typeof LogsResponseSchema>): Buffer {
  const bytes = toBinary(LogsResponseSchema, create(LogsResponseSchema, init));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

test("an agent that has heartbeats in place of records is silent, but not while its reader takes its time", async (t) => {
  const path = join(scratchDirectory(), "agent.sock");
  const server = createServer();
  const asked = once(server, "stream") as Promise<[ServerHttp2Stream]>;
  server.listen(path);
  await once(server, "listening");
  const over = new AbortController();
  t.after(() => {
    over.abort();
    server.close();
  });
  let now = performance.now();
  t.mock.method(performance, "now", () => now);
  t.mock.timers.enable({ apis: ["setInterval"] });
  /** Lets time pass as it does for a process that runs. */
  const pass = (ms: number): void => {
    for (let passed = 0; passed < ms; passed += 2_500) {
      now += 2_500;
      t.mock.timers.tick(2_500);
    }
  };
  const records = agentLog({ address: { kind: "unix", path } }, "", { records: true }, over.signal);
  const first = records.next();
  const [stream] = await asked;
  stream.on("error", () => {});
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" });
  const chunk = { offset: 0n, data: Buffer.from("record") };
  stream.write(response({ message: { case: "chunk", value: chunk } }));
  assert.equal(Buffer.from((await first).value?.data ?? []).toString(), "record");
  pass(60_000);
  let isOver = false;
  const second = records.next().finally(() => {
    isOver = true;
  });
  second.catch(() => {});
  for (let passed = 0; passed < 27_500; passed += 2_500) {
    stream.write(response({ message: { case: "heartbeat", value: {} } }));
    for (let turn = 0; turn < 20; turn++) {
      await nextTurn();
    }
    pass(2_500);
  }
  await nextTurn();
  assert.equal(isOver, false);
  while (!isOver) {
    pass(2_500); // The last heartbeats may have come late.
    await nextTurn();
  }
  await assert.rejects(second, /silent for 30 s/);
});
