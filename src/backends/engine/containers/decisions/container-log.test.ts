import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { logDetails, requireLog } from "./container-log.ts";

const record = (config: Record<string, string>, type = "json-file", env = ["A=1", "HOME_DIR=/=", "odd"]) =>
  create(ContainerRecordSchema, {
    id: "0123456789abcdef".repeat(4),
    name: "web",
    imageId: `sha256:${"9".repeat(64)}`,
    path: "sh",
    args: ["-c", "true"],
    config: { image: "shop/web", env, labels: { team: "blue", tier: "front", ["A".repeat(64)]: "" } },
    hostConfig: { logConfig: { type, config } },
  });

test("details are the labels and variables that are asked for, and the tag", () => {
  const details = {
    labels: "team,nothing",
    "labels-regex": "^ti",
    env: "A",
    "env-regex": "(?i)^home",
    tag: "{{.Name}}/{{.ID}}/{{.ImageID}}/{{.Command}}",
  };
  assert.deepEqual(logDetails(record(details)), {
    team: "blue",
    tier: "front",
    A: "1",
    HOME_DIR: "/=",
    tag: "web/0123456789ab/sha256:99999/sh -c true",
  });
  assert.deepEqual(logDetails(record({ "labels-regex": "^(A+)+$b" })), {}); // A backtracking engine would never finish.
  assert.deepEqual(logDetails(record({})), {});
  assert.deepEqual(logDetails(record({}, "local")), {});
});

test("a start whose log cannot be kept fails as dockerd's does", () => {
  const begin = "failed to create task for container: failed to initialize logging driver: ";
  for (const [config, reason] of [
    [{ "max-file": "0" }, "max-file cannot be less than 1"],
    [{ compress: "maybe" }, 'strconv.ParseBool: parsing "maybe": invalid syntax'],
    [{ "env-regex": "[" }, "error parsing regexp: missing closing ]: `[`"],
    [{ "labels-regex": "a(" }, "error parsing regexp: missing closing ): `a(`"],
    [{ "labels-regex": "*" }, "error parsing regexp: missing argument to repetition operator: `*`"],
    [{ "labels-regex": "(?=a)" }, "error parsing regexp: invalid or unsupported Perl syntax: `(?=`"],
    [{ tag: "{{" }, "template: log-tag:1: unclosed action"],
  ] as const) {
    assert.throws(() => requireLog(record(config)), { kind: "system", message: begin + reason });
  }
  requireLog(record({ "env-regex": "[" }, "json-file", []));
  requireLog(record({ "max-file": "0" }, "none"));
});
