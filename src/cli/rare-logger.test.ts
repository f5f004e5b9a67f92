import assert from "node:assert/strict";
import { test } from "node:test";

import { createLogger } from "../common/logger.ts";
import { rareLogger } from "./rare-logger.ts";

test("a rare logger is loaded with its first line, and writes all of them in their order", async () => {
  const lines: unknown[] = [];
  const isWritten = Promise.withResolvers<void>();
  let loads = 0;
  const logger = rareLogger(async () => {
    loads++;
    const write = (line: string): void => {
      const { level, msg, service } = JSON.parse(line) as Record<string, unknown>;
      lines.push([level, msg, service]);
      if (lines.length === 2) {
        isWritten.resolve();
      }
    };
    return createLogger({ level: "info", process: "supervisor", destination: { write } });
  });
  assert.equal(loads, 0);

  logger.debug({}, "not shown");
  logger.warn({ service: "backend" }, "first");
  logger.error({}, "second");
  await isWritten.promise;
  assert.equal(loads, 1);
  assert.deepEqual(lines, [
    ["warn", "first", "backend"],
    ["error", "second", undefined],
  ]);
});

test("a rare logger that cannot be loaded loses no line", async (t) => {
  const told = Promise.withResolvers<unknown[]>();
  t.mock.method(console, "error", (...values: unknown[]) => told.resolve(values));
  rareLogger(() => Promise.reject(new Error("no such package"))).error({ reason: "SIGKILL" }, "it has ended");
  assert.deepEqual(await told.promise, ["error: it has ended", { reason: "SIGKILL" }]);
});
