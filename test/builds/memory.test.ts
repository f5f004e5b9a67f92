/**
 * Dockerfiles that would take the builder's memory: those whose variables expand too far are refused alone. Where memory is taken
 * in another way, the build is told so, as are those beside it, and the next one works.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { build, type BuildAnswer, built, compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs } from "../support/command.ts";
import type { Daemon } from "../support/daemon.ts";
import { hijackRequest, RawClient } from "../support/raw-client.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon } = withDaemon({ args: ["--builder-memory", "128MiB"] });
const exceeded = /need more than 134217728 bytes of memory, the limit of builder\.memory/;
const refused =
  /the Dockerfile's variable "A19" may have 2097152 bytes, more than the 1048576 that one may have/;

/** Each variable has the last one twice. */
const doubling = (instruction: "ARG" | "ENV", count: number): string[] => [
  `${instruction} A0=xxxx`,
  ...Array.from({ length: count }, (_, index) => `${instruction} A${index + 1}=$A${index}$A${index}`),
];
/** The last of them would have 2^42 characters. */
const doublingInAStage = ["FROM busybox", ...doubling("ENV", 40), ""].join("\n");
const doublingBeforeIt = [...doubling("ARG", 40), "FROM busybox", ""].join("\n");
/** Within the limits of a Dockerfile: each step has the variables, of 1 MiB together. */
const manySteps = ["FROM busybox", ...doubling("ENV", 17), ...Array<string>(45).fill("RUN true"), ""].join(
  "\n",
);

/** Begins a build that takes a while, and waits for its step. */
async function buildingBeside(
  daemon: Daemon,
  seconds: number,
): Promise<{ readonly beside: Promise<BuildAnswer> }> {
  const beside = build(daemon.socket, `FROM busybox\nRUN sleep ${seconds}\n`);
  await until(
    async () => (await daemon.ok("ps", "--quiet", "--filter", "label=sockerless.build")) || undefined,
  );
  return { beside };
}

test("a Dockerfile whose variables double each other is refused, and the build beside it goes on", async () => {
  const { beside } = await buildingBeside(daemon, 5);
  for (const dockerfile of [doublingInAStage, doublingBeforeIt]) {
    const { error } = await build(daemon.socket, dockerfile);
    assert.match(error?.message ?? "", refused);
  }
  assert.equal((await beside).error, undefined);
});

test("so is one whose base image's variables or triggers do", async () => {
  const triggers = doubling("ENV", 40).map((line) => `ONBUILD ${line}`);
  await built(daemon.socket, ["FROM busybox", ...triggers, ""].join("\n"), { query: { t: "triggers" } });
  const { error } = await build(daemon.socket, "FROM triggers\n");
  assert.match(error?.message ?? "", refused);
  const variables = doubling("ENV", 40);
  await built(daemon.socket, ["FROM busybox", ...variables.slice(0, 11), ""].join("\n"), {
    query: { t: "variables" },
  });
  const { error: doubled } = await build(
    daemon.socket,
    ["FROM variables", ...variables.slice(11, 23), ""].join("\n"),
  );
  assert.match(doubled?.message ?? "", refused);
});

test("buildx is told so too", { timeout: pluginLimitMs }, async (t) => {
  const plugin = await findPlugin("buildx");
  if ("missing" in plugin) {
    t.skip(plugin.missing);
    return;
  }
  const directory = scratchDirectory();
  await installPlugin(daemon, plugin.path);
  const { beside } = await buildingBeside(daemon, 6);
  const context = await writeFiles(directory, { Dockerfile: doublingInAStage });
  for (const options of [[], ["--call", "outline"], ["--check"]]) {
    const { code, errorText } = await daemon.docker(
      ...["buildx", "build", "--progress", "plain", ...options, context],
    );
    assert.notEqual(code, 0);
    assert.match(errorText, refused);
  }
  assert.equal((await beside).error, undefined);
});

test("a build that needs more memory than the builder has is told so, and so is the one beside it", async () => {
  const staying = new RawClient(daemon.socket).send(hijackRequest("/grpc"));
  assert.match(await staying.answered(), /^HTTP\/1\.1 101 /);
  const { beside } = await buildingBeside(daemon, 1000);
  const { error } = await build(daemon.socket, manySteps);
  assert.match(error?.message ?? "", exceeded);
  assert.match((await beside).error?.message ?? "", exceeded);
  // Even while a client of the builder before has not left.
  await built(daemon.socket, "FROM busybox\nRUN true\n");
  staying.close();
  await untilTrue(() => exceeded.test(daemon.output));
  await untilTrue(
    async () => (await daemon.ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build")) === "",
  );
});
