/** A Dockerfile that takes the builder's memory: its build is told so, as are those beside it, and the next one works. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";

import { build, built, compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs } from "../support/command.ts";
import { hijackRequest, RawClient } from "../support/raw-client.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";

before(compileBuilder, { timeout: buildLimitMs });
const setting = withDaemon({ args: ["--builder-memory", "128MiB"] });
const refused = /need more than 134217728 bytes of memory, the limit of builder\.memory/;

/** Each variable has the last one twice: the last of them would have 2^40 characters. */
const doubling = (instruction: "ARG" | "ENV"): string[] => [
  `${instruction} A0=x`,
  ...Array.from({ length: 40 }, (_, index) => `${instruction} A${index + 1}=$A${index}$A${index}`),
];
const doublingInAStage = ["FROM busybox", ...doubling("ENV"), ""].join("\n");
const doublingBeforeIt = [...doubling("ARG"), "FROM busybox", ""].join("\n");

test("a build that needs more memory than the builder has is told so, and so is the one beside it", async () => {
  const { daemon } = setting;
  const staying = new RawClient(daemon.socket).send(hijackRequest("/grpc"));
  assert.match(await staying.answered(), /^HTTP\/1\.1 101 /);
  const beside = build(daemon.socket, "FROM busybox\nRUN sleep 1000\n");
  await until(
    async () => (await daemon.ok("ps", "--quiet", "--filter", "label=sockerless.build")) || undefined,
  );
  const { error } = await build(daemon.socket, doublingInAStage);
  assert.match(error?.message ?? "", refused);
  assert.match((await beside).error?.message ?? "", refused);
  // Even while a client of the builder before has not left.
  await built(daemon.socket, "FROM busybox\nRUN true\n");
  staying.close();
  await untilTrue(() => refused.test(daemon.output));
  await untilTrue(
    async () => (await daemon.ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build")) === "",
  );
});

test("a build is told so too where it is the arguments before its stages that need more", async () => {
  const { error } = await build(setting.daemon.socket, doublingBeforeIt);
  assert.match(error?.message ?? "", refused);
});

test("buildx is told so too", { timeout: pluginLimitMs }, async (t) => {
  const plugin = await findPlugin("buildx");
  if ("missing" in plugin) {
    t.skip(plugin.missing);
    return;
  }
  const { daemon } = setting;
  const directory = await mkdtemp(join(tmpdir(), "skl-memory-"));
  t.after(() => rm(directory, { recursive: true }));
  await installPlugin(daemon, plugin.path);
  const context = await writeFiles(directory, { Dockerfile: doublingInAStage });
  const { code, errorText } = await daemon.docker("buildx", "build", "--progress", "plain", context);
  assert.notEqual(code, 0);
  assert.match(errorText, refused);
});
