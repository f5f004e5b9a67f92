/**
 * kill -9 at each step of create, start, stop, remove and pull, of the backend and of the host process: nothing is
 * lost, doubled or leaked, and the next one works. All steps with SOCKERLESS_SOAK=1 (`npm run soak`), else a sample.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Daemon } from "../support/daemon.ts";
import { busyboxImage } from "../support/images.ts";
import { processOf } from "../support/processes.ts";
import { TestRegistry } from "../support/registry.ts";
import { until } from "../support/until.ts";
import { rulesOf } from "../support/traces.ts";
import { assertLived, assertRules, assertSound, clearAway, life } from "./whole-life.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";

const driverSteps = [
  ...[
    "images.prepare",
    "images.forget",
    "networks.ensure",
    "networks.remove",
    "volumes.create",
    "volumes.remove",
  ],
  ...["workloads.create", "workloads.launch", "workloads.launch:2", "workloads.release", "workloads.remove"],
].flatMap((step) => {
  const [name, count] = step.split(":");
  return ["before", "after"].map((when) => `${name}.${when}${count === undefined ? "" : `:${count}`}`);
});
const hostSteps = [
  ...["host.create.directories", "host.create.image-mounted", "host.create.seeded"],
  ...["host.launch.run-directory", "host.launch.prepared", "host.launch.mounted", "host.launch.specified"],
  ...["host.launch.shim-spawned", "host.launch.shim-ready", "host.release.stopped", "host.release.unmounted"],
  ...["host.remove.released", "host.layer.unpacked", "host.layer.published"],
];
/** More than a whole life has; what lies beyond its end is not reached. */
const commits = Array.from({ length: 80 }, (_, index) => `state.commit.after:${index + 1}`);
const sample = [
  "workloads.create.after",
  "workloads.launch.after",
  "host.launch.mounted",
  "host.launch.shim-spawned",
];
const steps = isWhole ? [...driverSteps, ...hostSteps, ...commits] : sample;

describe("kill -9 at a step", () => {
  let registry: TestRegistry;
  before(async () => {
    registry = await TestRegistry.start();
    await registry.push("busybox", "latest", await busyboxImage());
  });
  after(() => registry[Symbol.asyncDispose]());

  for (const step of steps) {
    test(step, async () => {
      const image = `${registry.host}/busybox:latest`;
      const armed = join(await mkdtemp(join(tmpdir(), "skl-fault-")), "step");
      await using daemon = await Daemon.start({
        env: { SOCKERLESS_TEST_BUILD: "1", SOCKERLESS_FAULT_POINT_FILE: armed },
      });
      const rules = await rulesOf(daemon);
      assert.ok(rules.length > 0, "the instance has its table");
      const role = step.startsWith("host.") ? "host" : "backend";
      const victim = await processOf(daemon, role);
      await writeFile(armed, step);
      await life(daemon, image);
      const isReached = !existsSync(armed);
      assert.ok(isReached || step.startsWith("state.commit"), "the step was taken");
      await rm(dirname(armed), { recursive: true });
      if (isReached) {
        await processOf(daemon, role, victim);
      }
      await assertSound(daemon);
      await clearAway(daemon, image);
      await assertRules(daemon, rules);

      assertLived(await life(daemon, image));
      await clearAway(daemon, image);
      await assertRules(daemon, rules);
      await until(() => readdirSync(join(daemon.stateDir, "trash")).length === 0 || undefined);
    });
  }
});
