import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { LogConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { logSettings } from "./log-settings.ts";

const settings = (type: string, config: Record<string, string> = {}) =>
  logSettings(create(LogConfigSchema, { type, config }));

test("json-file keeps everything unless it has a size", () => {
  assert.deepEqual(settings("json-file"), { disabled: false, maxSize: 0n, maxFiles: 1 });
  assert.deepEqual(logSettings(undefined), { disabled: false, maxSize: 0n, maxFiles: 1 });
  assert.deepEqual(settings("json-file", { "max-size": "10m", "max-file": "3" }), {
    disabled: false,
    maxSize: 10_000_000n,
    maxFiles: 3,
  });
});

test("a log has a hundred files at most, which hold what more of them would", () => {
  const { maxSize, maxFiles } = settings("json-file", { "max-size": "3k", "max-file": "1001" });
  assert.deepEqual([maxSize, maxFiles], [30_030n, 100]);
  assert.deepEqual(settings("local", { "max-size": "1k", "max-file": "100" }).maxSize, 1_000n);
  const most = settings("json-file", { "max-size": "8e18", "max-file": "99999999999" });
  assert.deepEqual([most.maxSize, most.maxFiles], [2n ** 63n - 1n, 100]);
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
    ["10 MB", 10_000_000n],
    ["2GiB", 2_000_000_000n],
  ] as const) {
    assert.equal(settings("json-file", { "max-size": text }).maxSize, bytes, text);
  }
});

test("output that cannot be recorded at once is only dropped on request", () => {
  assert.equal(settings("json-file", { mode: "blocking" }).bufferSize, undefined);
  assert.equal(settings("local", { mode: "non-blocking" }).bufferSize, 1_000_000n);
  const small = { mode: "non-blocking", "max-buffer-size": "4k" };
  assert.equal(settings("json-file", small).bufferSize, 4096n);
});

test("values that are none are refused in the words of moby's drivers", () => {
  for (const [type, config, message] of [
    ["json-file", { "max-size": "big" }, "invalid size: 'big'"],
    ["json-file", { "max-size": "-1" }, "invalid size: '-1'"],
    ["json-file", { "max-size": "1x" }, "invalid suffix: 'x'"],
    ["json-file", { "max-size": "1kbb" }, "invalid suffix: 'kbb'"],
    ["json-file", { "max-size": "1.2.3k" }, 'strconv.ParseFloat: parsing "1.2.3": invalid syntax'],
    ["json-file", { "max-size": "0" }, "max-size must be a positive number"],
    ["json-file", { "max-file": "0" }, "max-file cannot be less than 1"],
    ["json-file", { "max-file": "x" }, 'strconv.Atoi: parsing "x": invalid syntax'],
    ["json-file", { compress: "maybe" }, 'strconv.ParseBool: parsing "maybe": invalid syntax'],
    [
      "json-file",
      { compress: "true", "max-size": "1m" },
      "compress cannot be true when max-file is less than 2 or max-size is not set",
    ],
    ["local", { "max-size": "big" }, "invalid value for max-size: big: invalid size: 'big'"],
    ["local", { "max-file": "1" }, "compression cannot be enabled when max file count is 1"],
    [
      "local",
      { compress: "maybe" },
      'error reading compress log option: strconv.ParseBool: parsing "maybe": invalid syntax',
    ],
  ] as const) {
    assert.throws(() => settings(type, config), { message }, JSON.stringify(config));
  }
  assert.equal(settings("local", { "max-file": "1", compress: "false" }).maxFiles, 1);
});
