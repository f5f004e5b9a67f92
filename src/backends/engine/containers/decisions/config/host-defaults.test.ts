import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { HostConfigSchema } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { withHostDefaults } from "./host-defaults.ts";

const facts = { cgroupVersion: "2", runtimes: [], maskedPaths: [], readonlyPaths: [] };

test("a container with the host's privileges or namespaces has no SELinux label, unless one is asked for", () => {
  const optionsOf = (asked: MessageInitShape<typeof HostConfigSchema>) =>
    withHostDefaults(create(HostConfigSchema, asked), facts, (reference) => reference).securityOpt;
  for (const asked of [{ privileged: true }, { ipcMode: "host" }, { pidMode: "host" }]) {
    assert.deepEqual(optionsOf(asked), ["label=disable"]);
    assert.deepEqual(optionsOf({ ...asked, securityOpt: ["seccomp=unconfined"] }), [
      "seccomp=unconfined",
      "label=disable",
    ]);
    const label = ["label=level:s0"];
    assert.deepEqual(optionsOf({ ...asked, securityOpt: label }), label);
  }
  assert.deepEqual(optionsOf({ ipcMode: "private", pidMode: "container:host" }), []);
});
