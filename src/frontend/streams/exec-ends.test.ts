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
  for (const [id, word] of [
    ["short", "x"],
    ["long", "x".repeat(2 ** 20)],
  ] as const) {
    const exec = create(InspectExecResponseSchema, { id, config: { cmd: ["true", word] } });
    await ends.of(exec, { logger, signal }).cut();
  }
  const short = await ends.inspect("short", signal);
  assert.deepEqual([short.exitCode, short.config?.cmd], [255, ["true", "x"]]);
  const long = await ends.inspect("long", signal);
  assert.deepEqual([long.exitCode, long.config], [255, undefined]);
});
