import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { createLogger } from "../../common/logger.ts";
import { InspectExecResponseSchema } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { ExecEnds } from "./exec-ends.ts";

test("of an exec whose container is gone the end is remembered, and a command only if it is short", async () => {
  const gone = (): Promise<never> => Promise.reject(new ConnectError("no such exec", Code.NotFound));
  const ends = new ExecEnds({ awaitExec: gone, inspectExec: gone } as never);
  const { signal } = new AbortController();
  const logger = createLogger({ level: "silent", process: "test" });
  for (const [id, words, kept] of [
    ["short", ["x"], true],
    ["long", ["x".repeat(2 ** 20)], false],
    ["of many words", Array<string>(100).fill(""), false],
  ] as const) {
    const cmd = ["true", ...words];
    const exec = create(InspectExecResponseSchema, { id, config: { cmd } });
    await ends.of(exec, { logger, signal }).cut();
    const { exitCode, config } = await ends.inspect(id, signal);
    assert.deepEqual([exitCode, config?.cmd], [255, kept ? cmd : undefined], id);
  }
});

test("streams that were cut keep half of the 10,000 slots for streams, however many they are", async () => {
  let taken = 0;
  const leave = (): void => {
    taken -= 1;
  };
  const streamingExec = (): Disposable => {
    taken += 1;
    return { [Symbol.dispose]: leave };
  };
  const gone = (): Promise<never> => Promise.reject(new ConnectError("no such exec", Code.NotFound));
  const ends = new ExecEnds({ awaitExec: gone } as never, { cutExecs: [], streamingExec } as never);
  const { signal } = new AbortController();
  const logger = createLogger({ level: "silent", process: "test" });
  for (let number = 0; number < 6_000; number += 1) {
    const exec = create(InspectExecResponseSchema, { id: String(number) });
    using _streaming = ends.streaming(exec.id);
    await ends.of(exec, { logger, signal }).cut();
  }
  assert.equal(taken, 5_000);
});
