import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ConnectError } from "@connectrpc/connect";

import { toConnectError } from "./connect-error.ts";
import { fromUnknown, systemError } from "./errors.ts";
import { logFailure } from "./failures.ts";
import { createLogger, type LoggerOptions } from "./logger.ts";

function logged(error: unknown, level: LoggerOptions["level"] = "info"): Record<string, unknown> {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  logFailure(createLogger({ level, process: "backend", destination }), { status: 500 }, error, "failed");
  assert.equal(lines.length, 1);
  const { time: _time, process: _process, ...rest } = JSON.parse(lines[0] ?? "");
  return rest;
}

describe("the log of a failure", () => {
  const foreseen = { level: "warn", status: 500, reason: "port is taken", msg: "failed" };

  it("logs an expected failure in one line, from here or from the answering process", () => {
    const error = systemError("port is taken");
    for (const each of [error, toConnectError(error), fromUnknown(toConnectError(error))]) {
      assert.deepEqual(logged(each), foreseen);
    }
    const cause = new Error("EADDRINUSE");
    assert.deepEqual(logged(systemError("port is taken", cause)), { ...foreseen, cause: "EADDRINUSE" });
  });

  it("names the request that another service has refused, however often its error was converted", () => {
    const refusal = Object.assign(systemError("ecs: RegisterTaskDefinition: no"), { requestId: "request-1" });
    for (const each of [
      refusal,
      toConnectError(refusal),
      systemError("cannot start", toConnectError(refusal)),
    ]) {
      assert.equal(logged(each)["requestId"], "request-1");
    }
  });

  it("shows its stack at level debug", () => {
    const { err, ...rest } = logged(systemError("port is taken"), "debug");
    assert.deepEqual(rest, foreseen);
    assert.match((err as { stack: string }).stack, /failures\.test/);
  });

  it("shows the stack of anything else", () => {
    const bug = new TypeError("x is not a function");
    for (const each of [bug, fromUnknown(bug), new ConnectError("protocol error")]) {
      const { err, level } = logged(each);
      assert.equal(level, "error");
      assert.match((err as { stack: string }).stack, /failures\.test/);
    }
  });
});
