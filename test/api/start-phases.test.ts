/** The phases of a start: where a user finds them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";

import { backendUnderTest } from "../support/backend-under-test.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok } = withDaemon();

/** The command `sockerless why`. */
const why = (container: string) =>
  runCommand(process.execPath, [join(checkout, "dist/bundle/cli/main.js"), "why", container], {
    env: daemon.clientEnv,
  });

const phasesOf: Readonly<Record<string, readonly string[]>> = {
  local: ["accepted", "launch", "agent", "process"],
  ecs: ["accepted", "definition", "request", "provisioning", "pull", "containers", "agent", "process"],
  aca: ["accepted", "definition", "request", "provisioning", "agent", "process"],
  kubernetes: ["accepted", "definition", "request", "provisioning", "agent", "process"],
};

describe("a start's phases", () => {
  test("are in inspect, in the log and in the answer of `sockerless why`", async () => {
    const id = await ok("run", "--detach", "--name", "phased", "busybox", "sleep", "1000");
    await untilTrue(() => daemon.output.includes("a container has started in "));
    const inspected = await ok("inspect", "--format", "{{json .StartPhases}}", id);
    const phases = JSON.parse(inspected) as readonly { readonly Name: string; readonly From: string }[];
    const names = new Set(phases.map(({ Name }) => Name));
    assert.deepEqual(names, new Set(phasesOf[backendUnderTest()]));
    const { code, text } = await why("phased");
    assert.equal(code, 0);
    assert.match(text, /^phased is running\n/);
    for (const { Name } of phases) {
      assert.match(text, new RegExp(`^ +${Name} +\\+`, "m"));
    }
    await ok("rm", "--force", "phased");
  });

  test("end with the reason where it has failed", async () => {
    await daemon.docker("run", "--name", "failed", "busybox", "nosuch");
    const { text } = await why("failed");
    assert.match(text, /^failed is created: .*nosuch/);
    assert.match(text, /^ +accepted /m);
    await ok("rm", "failed");
  });

  test("are asked of a container that exists", async () => {
    const { code, errorText } = await why("nobody");
    assert.equal(code, 1);
    assert.match(errorText, /No such container: nobody/);
  });
});
