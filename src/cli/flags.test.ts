import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Command } from "commander";

import { addFlags, flagValues, settingsOfCommand } from "./flags.ts";

function parse(...args: string[]): Record<string, unknown> {
  const of = settingsOfCommand("serve");
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addFlags(command, of);
  command.parse(args, { from: "user" });
  return flagValues(command.opts(), of);
}

describe("flags", () => {
  it("give values by setting name, and none for flags left out", () => {
    assert.deepEqual(parse("--state-dir", "/s", "--ecs-cluster=c"), { state_dir: "/s", "ecs.cluster": "c" });
  });

  it("collect lists, repeated or with commas", () => {
    assert.deepEqual(parse("--host", "unix:///a", "--host", "unix:///b"), {
      hosts: ["unix:///a", "unix:///b"],
    });
    assert.deepEqual(parse("--ecs-subnets", "a,b"), { "ecs.subnets": ["a", "b"] });
  });

  it("switch on and off", () => {
    assert.deepEqual(parse("--publish"), { publish: true });
    assert.deepEqual(parse("--no-publish", "--ecs-assign-public-ip"), {
      publish: false,
      "ecs.assign_public_ip": true,
    });
  });

  it("of a backend are those that it reads", () => {
    const names = settingsOfCommand("backend", "ecs").map(({ name }) => name);
    assert.ok(names.includes("ecs.cluster") && names.includes("listen"));
    assert.ok(!names.includes("hosts") && !names.includes("backend") && !names.includes("aca.location"));
  });

  it("of prepared tasks are each cloud's alone", () => {
    assert.ok(!settingsOfCommand("backend", "local").some(({ section }) => section === "pool"));
    for (const backend of ["ecs", "aca", "kubernetes"] as const) {
      const names = settingsOfCommand("backend", backend).map(({ name }) => name);
      assert.ok(names.includes("pool.mode"), backend);
    }
  });
});
