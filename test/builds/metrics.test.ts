/** Metrics of builds: how many ended, and which of their steps came from the cache. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, test } from "node:test";

import { build, built, compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { askMetrics, seriesOf, sumOf } from "../support/metrics.ts";
import { startDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });

test("builds, their steps and those from the cache are counted", async () => {
  await using resources = new AsyncDisposableStack();
  const directory = scratchDirectory();
  const socket = join(directory, "metrics.sock");
  const daemon = await startDaemon(resources, { args: ["--metrics-addr", `unix://${socket}`] });
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  const scrape = async (): Promise<string> => (await askMetrics(socket, "/metrics")).text;
  assert.deepEqual(seriesOf(await scrape(), "sockerless_builds_total"), [], "no builder runs");

  const dockerfile = "FROM busybox\nRUN echo one > /one\nRUN cat /one > /two\n";
  await built(daemon.socket, dockerfile);
  const first = await scrape();
  assert.equal(sumOf(first, "sockerless_builds_total", { outcome: "succeeded" }), 1);
  const steps = sumOf(first, "sockerless_build_steps_total", { cached: "false" });
  assert.ok(steps >= 2, first);
  assert.equal(sumOf(first, "sockerless_build_steps_total", { cached: "true" }), 0);

  await built(daemon.socket, dockerfile);
  const again = await scrape();
  assert.ok(sumOf(again, "sockerless_build_steps_total", { cached: "true" }) >= 2, again);
  assert.ok((await build(daemon.socket, "FROM busybox\nRUN false\n")).error !== undefined);
  assert.equal(sumOf(await scrape(), "sockerless_builds_total", { outcome: "failed" }), 1);
});
