import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { systemError } from "./errors.ts";
import { componentLogger, createLogger, formatForTerminal, type LoggerOptions } from "./logger.ts";

function capture(level: LoggerOptions["level"]) {
  const lines: string[] = [];
  const logger = createLogger({
    level,
    process: "backend",
    destination: { write: (line) => void lines.push(line) },
  });
  return { logger, lines };
}

describe("the logger", () => {
  it("names the request that led to an error", () => {
    const { logger, lines } = capture("info");
    const refusal = Object.assign(new Error("denied"), { requestId: "request-1" });
    componentLogger(logger, "engine").warn({ err: systemError("cannot make it", refusal) }, "failed");
    logger.info({ err: new Error("another") }, "failed");
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).requestId),
      ["request-1", undefined],
    );
  });

  it("writes one JSON object a line that names process, component, level and time", () => {
    const { logger, lines } = capture("info");
    componentLogger(logger, "engine").info({ container: "abc" }, "container started");
    assert.equal(lines.length, 1);
    const { time, ...rest } = JSON.parse(lines[0] ?? "");
    assert.deepEqual(rest, {
      level: "info",
      process: "backend",
      component: "engine",
      container: "abc",
      msg: "container started",
    });
    assert.ok(Math.abs(Date.parse(time) - Date.now()) < 10_000);
  });

  it("keeps silent below its level", () => {
    const { logger, lines } = capture("warn");
    logger.info("not seen");
    componentLogger(logger, "engine").debug("not seen");
    assert.deepEqual(lines, []);
  });

  it("shows an error with its cause", () => {
    const { logger, lines } = capture("info");
    logger.error({ err: systemError("outer", new Error("inner")) }, "failed");
    const { err } = JSON.parse(lines[0] ?? "");
    assert.equal(err.kind, "system");
    assert.match(err.stack, /outer[\s\S]*inner/);
  });

  it("is short on a terminal", () => {
    const line = JSON.stringify({
      level: "warn",
      time: "2025-01-01T12:30:01.000Z",
      process: "backend",
      component: "engine",
      container: "abc",
      reason: "no room",
      msg: "slow",
    });
    assert.equal(
      formatForTerminal(line),
      '12:30:01.000 warn backend/engine: slow container=abc reason="no room"\n',
    );
  });
});
