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
