/**
 * kill -9 at each step of create, start, stop, remove and pull, of the backend and of the host process: nothing is
 * lost, doubled or leaked, and the next one works. All steps with SOCKERLESS_SOAK=1 (`npm run soak`), else a sample.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { createSteps } from "../../src/backends/engine/containers/create/create-container.ts";
import { removeSteps } from "../../src/backends/engine/containers/remove/remove-container.ts";
import { stopSteps } from "../../src/backends/engine/containers/run/stop-container.ts";
import { runSteps, startSteps } from "../../src/backends/engine/containers/start/start-container.ts";
import { Daemon } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxArchiveFile, busyboxImage } from "../support/images.ts";
import { type DaemonRole, processOf } from "../support/processes.ts";
import { TestRegistry } from "../support/registry.ts";
import { until, untilTrue } from "../support/until.ts";
import { contentOf } from "../support/traces.ts";
import { testBuildEnv } from "../support/test-build.ts";
import {
  assertBelongings,
  assertDiskSound,
  assertEventsOfWholeLives,
  assertLived,
  assertSound,
  belongingsOf,
  blockVolumeLife,
  clearAway,
  live,
  wholeLife,
} from "./whole-life.ts";
import { isSoak } from "../support/soak.ts";

const verbSteps = [createSteps, startSteps, runSteps, stopSteps, removeSteps].flatMap(({ name, steps }) =>
  steps.flatMap((step) => beforeAndAfter(`${name}.${step.name}`)),
);

const driverSteps = [
  ...[
    "images.prepare",
    "images.forget",
    "networks.ensure",
    "networks.connect",
    "networks.disconnect",
    "networks.remove",
    "volumes.create",
    "volumes.create:3",
    "volumes.remove",
    "volumes.remove:3",
  ],
  ...["workloads.create", "workloads.launch", "workloads.launch:2", "workloads.release", "workloads.remove"],
].flatMap(beforeAndAfter);
const hostSteps = [
  ...["host.create.directories", "host.create.image-mounted", "host.create.seeded"],
  ...["host.launch.run-directory", "host.launch.prepared", "host.launch.mounted", "host.launch.specified"],
  ...["host.launch.shim-spawned", "host.launch.shim-ready", "host.release.stopped", "host.release.unmounted"],
  ...["host.remove.released", "host.layer.unpacked", "host.layer.published", "host.layer.given"],
  ...["host.volume.recorded", "host.volume.formatted", "host.volume.held", "host.volume.mounted"],
  ...["host.volume.let-go", "host.volume.let-go.unmounted", "host.volume.unmounted"],
  ...["host.launch.namespace-made", "host.network.linked", "host.network.addressed", "host.network.ruled"],
];
const shimSteps = ["shim.start.created", "shim.start.announced", "shim.start.executing", "shim.end.recorded"];
const blobSteps = ["blobs.append.before", "blobs.append.after:2", "blobs.place.before", "blobs.place.after"];
/** More than a whole life has; what lies beyond its end is not reached. */
const commits = Array.from({ length: 80 }, (_, index) => `state.commit.after:${index + 1}`);
const sample = ["host.volume.mounted", "shim.start.executing"];
const steps = isSoak
  ? [...verbSteps, ...driverSteps, ...blobSteps, ...hostSteps, ...shimSteps, ...commits]
  : sample;
/** Steps that a block volume comes to, alone in its life. */
const blockVolumeSteps = isSoak
  ? [
      ...["volumes.create", "volumes.remove", "workloads.create", "workloads.launch", "workloads.launch:2"],
      ...["workloads.release", "workloads.remove"],
    ]
      .flatMap(beforeAndAfter)
      .concat(
        hostSteps.filter((step) => /^host\.(volume|create|launch|release|remove)\./.test(step)),
        shimSteps,
        commits.slice(0, 40),
      )
  : ["host.volume.let-go"];
const sweeps = [
  { of: "", steps, commands: wholeLife },
  { of: " of a block volume's life", steps: blockVolumeSteps, commands: blockVolumeLife },
];

/** The fault points around a call: `networks.ensure.before`, `networks.ensure.after`; of its second one: `….before:2`. */
function beforeAndAfter(call: string): string[] {
  const [name, count] = call.split(":");
  return ["before", "after"].map((when) => `${name}.${when}${count === undefined ? "" : `:${count}`}`);
}

/** Role of the process that comes to a step, and is started again; undefined: a shim. */
function roleOf(step: string): DaemonRole | undefined {
  if (step.startsWith("shim.")) {
    return undefined;
  }
  return step.startsWith("host.") ? "host" : "backend";
}

for (const { of, steps, commands } of sweeps) {
  describe(`kill -9 at a step${of}`, () => {
    const registry = duringTests(() => TestRegistry.start());
    before(async () => {
      await registry.push("busybox", "latest", await busyboxImage());
    });

    for (const step of steps) {
      test(step, async () => {
        const image = `${registry.host}/busybox:latest`;
        const armed = join(await mkdtemp(join(tmpdir(), "skl-fault-")), "step");
        await using daemon = await Daemon.start({
          env: await testBuildEnv(armed),
        });
        const since = new Date();
        const before = await belongingsOf(daemon);
        assert.ok(
          before.rules.length > 0 && before.bridges.length > 0,
          "the instance has its table and its bridge",
        );
        const role = roleOf(step);
        const victim = role && (await processOf(daemon, role));
        await writeFile(armed, step);
        await live(daemon, image, commands);
        const isReached = !existsSync(armed);
        assert.ok(isReached || step.startsWith("state.commit"), "the step was taken");
        await rm(dirname(armed), { recursive: true });
        if (isReached && role !== undefined) {
          await processOf(daemon, role, victim);
        }
        await assertSound(daemon);
        await assertDiskSound(daemon);
        await clearAway(daemon, image);
        await assertBelongings(daemon, before);

        assertLived(await live(daemon, image, commands));
        await clearAway(daemon, image);
        await assertBelongings(daemon, before);
        await assertEventsOfWholeLives(daemon, since);
        await until(() => readdirSync(join(daemon.stateDir, "trash")).length === 0 || undefined);
      });
    }
  });
}

test("a load whose host process dies at a layer goes on with the next one, and leaves nothing behind", async () => {
  const armed = join(await mkdtemp(join(tmpdir(), "skl-fault-")), "step");
  await using daemon = await Daemon.start({ env: await testBuildEnv(armed) });
  const before = contentOf(daemon);
  await writeFile(armed, "host.layer.published");
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  assert.ok(!existsSync(armed), "the step was taken");
  await rm(dirname(armed), { recursive: true });
  assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "whole"), "whole");
  await daemon.ok("rmi", "busybox");
  // The container's remains go behind the answer, and its layers with them.
  await untilTrue(() => isDeepStrictEqual(contentOf(daemon), before));
});
