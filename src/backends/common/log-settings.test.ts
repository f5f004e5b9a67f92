import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { LogConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { logSettings } from "./log-settings.ts";

const settings = (type: string, config: Record<string, string> = {}) =>
  logSettings(create(LogConfigSchema, { type, config }));

test("json-file keeps everything unless it is told a size", () => {
  assert.deepEqual(settings("json-file"), { disabled: false, maxSize: 0n, maxFiles: 1 });
  assert.deepEqual(logSettings(undefined), { disabled: false, maxSize: 0n, maxFiles: 1 });
  assert.deepEqual(settings("json-file", { "max-size": "10m", "max-file": "3" }), {
    disabled: false,
    maxSize: 10_000_000n,
    maxFiles: 3,
  });
});

test("local is bounded by itself, none records nothing", () => {
  assert.deepEqual(settings("local"), { disabled: false, maxSize: 20n * 1024n * 1024n, maxFiles: 5 });
  assert.equal(settings("none").disabled, true);
});

test("sizes are taken in Docker's spellings", () => {
  for (const [text, bytes] of [
    ["512", 512n],
    ["1kb", 1000n],
    ["1.5k", 1500n],
    ["2GiB", 2_000_000_000n],
    ["-1", 0n],
  ] as const) {
    assert.equal(settings("json-file", { "max-size": text }).maxSize, bytes, text);
  }
});

test("what is no size and no count is refused", () => {
  assert.throws(() => settings("json-file", { "max-size": "big" }), { kind: "invalid" });
  assert.throws(() => settings("json-file", { "max-file": "0" }), { kind: "invalid" });
});
