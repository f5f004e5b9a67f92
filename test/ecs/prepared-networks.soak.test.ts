/** Prepared tasks where networks are names alone (`ecs.network_isolation: shared`). */
import assert from "node:assert/strict";
import { test } from "node:test";

import { EcsDaemon } from "../support/ecs-daemon.ts";
import { runSockerless } from "../support/run-sockerless.ts";
import { untilTrue } from "../support/until.ts";

test("a container on a network of its own runs in a prepared task", async () => {
  await using ecs = await EcsDaemon.start({
    ecs: { network_isolation: "shared", linger: "1s" },
    daemon: { args: ["--pool-mode=fixed", "--pool-images=busybox=1"] },
  });
  const { daemon } = ecs;
  await daemon.ok("network", "create", "own");
  await untilTrue(() => daemon.output.includes("a task waits for a container"));
  await daemon.ok("run", "--name=alone", "--network=own", "busybox", "true");
  const told = await runSockerless("why", "--host", daemon.host, "alone");
  assert.equal(told.split("\n").at(-1), "It runs in a prepared task.");
});
