import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { it } from "node:test";

import { createLogger } from "./logger.ts";
import { ProcessLog } from "./process-log.ts";

/** The log of a program, with the lines that are written. */
function followed() {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const log = new ProcessLog(createLogger({ level: "info", process: "backend", destination }), "host");
  const stderr = new PassThrough();
  log.follow(stderr);
  return { lines, log, stderr };
}

it("takes another program's lines over with their level and values, and a crash as it stands", async () => {
  const { lines, log, stderr } = followed();
  stderr.write(
    '{"time":"2025-01-01T00:00:00Z","level":"ERROR","msg":"cannot unmount","error":"busy"}\n{"time":',
  );
  stderr.write('"2025-01-01T00:00:01Z","level":"INFO","msg":"adopted","count":2}\n');
  stderr.end(
    '{"error":"gone","level":"warning","msg":"not removed","time":"2025-01-01T00:00:02Z"}\npanic: nil map\n',
  );
  await once(stderr, "close");
  assert.deepEqual(
    lines.map((line) => {
      const { time: _, process: __, ...rest } = JSON.parse(line);
      return rest;
    }),
    [
      { level: "error", component: "host", error: "busy", msg: "cannot unmount" },
      { level: "info", component: "host", count: 2, msg: "adopted" },
      { level: "warn", component: "host", error: "gone", msg: "not removed" },
      { level: "warn", component: "host", msg: "panic: nil map" },
    ],
  );
  assert.equal(log.lastLines, "cannot unmount: busy\nadopted\nnot removed: gone\npanic: nil map");
});

it("reads the beginning of a line without an end, and no more", async () => {
  const { lines, stderr } = followed();
  // More than a string can hold.
  const part = Buffer.alloc(2 ** 24, "A");
  for (let parts = 0; parts < 33; parts++) {
    stderr.write(part);
  }
  stderr.end("\nafter\n");
  await once(stderr, "close");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).msg),
    ["A".repeat(64 * 1024), "after"],
  );
});

it("takes a line whose message, level or error is no text", async () => {
  const { lines, log, stderr } = followed();
  const noText = '{"toString":1,"valueOf":1}';
  stderr.end(`{"msg":${noText}}\n{"msg":"here","level":${noText},"error":${noText}}\n`);
  await once(stderr, "close");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).msg),
    [`{"msg":${noText}}`, "here"],
  );
  assert.equal(log.lastLines, `{"msg":${noText}}\nhere`);
});
