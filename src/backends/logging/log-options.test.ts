import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";

import { LogConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { validateLogOptions } from "./log-options.ts";

const validate = (type: string, config: Record<string, string>) =>
  validateLogOptions(create(LogConfigSchema, { type, config }));

test("known options are accepted; sizes are parsed when a container starts", () => {
  validate("json-file", {
    mode: "blocking",
    tag: "{{",
    compress: "maybe",
    "max-file": "0",
    "env-regex": "[",
  });
  validate("json-file", { mode: "non-blocking", "max-buffer-size": "4m", "cache-disabled": "true" });
  validate("local", { "max-size": "x", mode: "" });
  validate("none", { anything: "goes", mode: "nonsense" });
});

test("unknown options are refused in moby's words", () => {
  for (const [type, config, message] of [
    ["json-file", { mode: "nonsense" }, "logger: logging mode not supported: nonsense"],
    [
      "json-file",
      { "max-buffer-size": "1m" },
      "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ],
    [
      "local",
      { mode: "non-blocking", "max-buffer-size": "x" },
      "error parsing option max-buffer-size: invalid size: 'x'",
    ],
    ["json-file", { "cache-disabled": "x" }, "invalid value for option cache-disabled: x"],
    ["papyrus", {}, "logger: no log driver named 'papyrus' is registered"],
    ["json-file", { colour: "red" }, "unknown log opt 'colour' for json-file log driver"],
    ["local", { tag: "x" }, "unknown log opt 'tag' for log driver local"],
  ] as const) {
    assert.throws(() => validate(type, config), { kind: "invalid", message });
  }
});
