import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { it } from "node:test";

import { createLogger } from "../../common/logger.ts";
import { HostLog } from "./host-log.ts";

it("takes the host process's lines over with their level and values, and a crash as it stands", async () => {
  const lines: string[] = [];
  const log = new HostLog(
    createLogger({
      level: "info",
      process: "backend",
      destination: { write: (line) => void lines.push(line) },
    }),
  );
  const stderr = new PassThrough();
  log.follow(stderr);
  stderr.write(
    '{"time":"2025-01-01T00:00:00Z","level":"ERROR","msg":"cannot unmount","error":"busy"}\n{"time":',
  );
  stderr.end('"2025-01-01T00:00:01Z","level":"INFO","msg":"adopted","count":2}\npanic: nil map\n');
  await once(stderr, "close");
  assert.deepEqual(
    lines.map((line) => {
      const { time: _, process: __, ...rest } = JSON.parse(line);
      return rest;
    }),
    [
      { level: "error", error: "busy", msg: "the host process: cannot unmount" },
      { level: "info", count: 2, msg: "the host process: adopted" },
      { level: "warn", msg: "the host process: panic: nil map" },
    ],
  );
  assert.equal(log.lastWords, "cannot unmount: busy\nadopted\npanic: nil map");
});
