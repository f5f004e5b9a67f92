import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { createLogger } from "../../common/logger.ts";
import { InspectExecResponseSchema } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { ExecEnds } from "./exec-ends.ts";

test("of an exec whose container is gone the end is remembered, without its command", async () => {
  const gone = (): Promise<never> => Promise.reject(new ConnectError("no such exec", Code.NotFound));
  const ends = new ExecEnds({ awaitExec: gone, inspectExec: gone } as never);
  const { signal } = new AbortController();
  const logger = createLogger({ level: "silent", process: "test" });
  const exec = create(InspectExecResponseSchema, { id: "one", config: { cmd: ["true"] } });
  await ends.of(exec, { logger, signal }).cut();
  const { exitCode, config } = await ends.inspect("one", signal);
  assert.deepEqual([exitCode, config], [255, undefined]);
});
