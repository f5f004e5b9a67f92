import assert from "node:assert/strict";
import { it } from "node:test";

import { createLogger } from "../../../common/logger.ts";
import { unavailable } from "../../../common/errors.ts";
import { BackgroundWork } from "./background.ts";

it("tells of what fails in a line, and of what an orderly end has stopped without a stack, to debuggers alone", async () => {
  const lines: string[] = [];
  const logger = createLogger({
    level: "debug",
    process: "test",
    destination: { write: (line) => void lines.push(line) },
  });
  const shutdown = new AbortController();
  const background = new BackgroundWork(logger, shutdown.signal);
  const fail = () => Promise.reject(unavailable("nobody is there"));
  await background.run("look", fail);
  shutdown.abort();
  await background.run("look again", fail);
  const [failed, stopped] = lines.map((line) => {
    const { level, msg, err, reason } = JSON.parse(line) as Record<string, unknown>;
    return { level, msg, hasStack: err !== undefined, reason };
  });
  assert.deepEqual(failed, {
    level: "error",
    msg: "failed: look: nobody is there",
    hasStack: true,
    reason: undefined,
  });
  assert.deepEqual(stopped, {
    level: "debug",
    msg: "stopped: look again",
    hasStack: false,
    reason: "nobody is there",
  });
});
