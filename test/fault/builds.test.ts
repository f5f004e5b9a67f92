/**
 * kill -9 of the backend at each step that it takes for a build: the build goes on, no command runs twice, and nothing is
 * left. With SOCKERLESS_SOAK=1 (`npm run soak -- "kills in builds"`) it is killed at the steps that one build records, of
 * those that nothing tells apart at the first; with SOCKERLESS_EVERY_STEP=1, too, at every one; else at a sample.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { built, compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { ofVerb } from "../support/kill-sweep.ts";
import { processOf } from "../support/processes.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { until, untilTrue } from "../support/until.ts";
import { isSoak } from "../support/soak.ts";

before(compileBuilder, { timeout: buildLimitMs });

const isEvery = process.env["SOCKERLESS_EVERY_STEP"] === "1";
const sample = ["start.launch.after", "remove.record.after"];
/** Kills of one daemon: its backend is started again later each time. */
const killsEach = 6;

/** Makes a build of its own, whose two commands count how often they run. */
async function buildCounting(socket: string): Promise<{ readonly id: string; readonly image: string }> {
  const id = randomUUID();
  const count = `--mount=type=cache,id=${id},target=/count`;
  const image = await built(
    socket,
    `FROM busybox AS base
COPY file /given
RUN ${count} echo one >> /count/runs; cp /count/runs /one
FROM busybox
COPY --from=base /one /given /
RUN ${count} echo two >> /count/runs; cp /count/runs /both; echo ${id}
`,
    { files: [{ name: "file", content: id }] },
  );
  return { id, image };
}

/** A daemon that can be killed, and its clean slate. */
class Builds implements AsyncDisposable {
  readonly daemon: Daemon;
  readonly armed: string;
  readonly record: string;
  readonly #directory: string;

  private constructor(daemon: Daemon, directory: string) {
    this.daemon = daemon;
    this.#directory = directory;
    this.armed = join(directory, "step");
    this.record = join(directory, "record");
  }

  static async start(): Promise<Builds> {
    const directory = await mkdtemp(join(tmpdir(), "skl-fault-"));
    const env = await testBuildEnv(join(directory, "step"), join(directory, "record"));
    const builds = new Builds(await Daemon.start({ env }), directory);
    await builds.ok("load", "--input", await busyboxArchiveFile());
    await buildCounting(builds.socket); // The builder is there from then on.
    return builds;
  }

  get socket(): string {
    return this.daemon.socket;
  }

  readonly ok = (...args: string[]): Promise<string> => this.daemon.ok(...args);

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon.stop();
    await rm(this.#directory, { recursive: true });
  }
}

/**
 * Steps that a build takes, as `state.commit.after:2` names the second of its kind. A build does the same again and again:
 * of steps that come after the same one, and of commits that come as late after that, the first is taken.
 */
async function recordedSteps(): Promise<string[]> {
  await using builds = await Builds.start();
  await writeFile(builds.record, "");
  await buildCounting(builds.socket);
  const counts = new Map<string, number>();
  const places = new Set<string>();
  let previous = "";
  let commits = 0;
  return (await readFile(builds.record, "utf8"))
    .trim()
    .split("\n")
    .filter((step) => !ofVerb.test(step))
    .flatMap((step) => {
      const count = (counts.get(step) ?? 0) + 1;
      counts.set(step, count);
      const isCommit = step.startsWith("state.commit");
      commits = isCommit ? commits + 1 : 0;
      const place = `${previous} ${commits} ${step}`;
      previous = isCommit ? previous : step;
      const isNew = !places.has(place);
      places.add(place);
      return isNew || isEvery ? [`${step}:${count}`] : [];
    });
}

const steps = isSoak ? await recordedSteps() : sample;

for (let first = 0; first < steps.length; first += killsEach) {
  describe(`a build whose backend is killed, from step ${first} on`, () => {
    const builds = duringTests(() => Builds.start());

    for (const step of steps.slice(first, first + killsEach)) {
      test(step, async () => {
        const { daemon, armed } = builds;
        const victim = await processOf(daemon, "backend");
        await writeFile(armed, step);
        const { id, image } = await buildCounting(builds.socket);
        const isTaken = !existsSync(armed);
        await rm(armed, { force: true });
        // How often a state is committed, and what goes on behind a build's end, is not the same each time.
        assert.ok(isTaken || isSoak || step.startsWith("state.commit"), "the step was taken");
        if (isTaken) {
          await processOf(daemon, "backend", victim);
        }
        const seen = await until(async () => {
          const { code, text } = await daemon.docker("run", "--rm", image, "cat", "/given", "/one", "/both");
          return code === 0 ? text : undefined;
        });
        assert.equal(seen, `${id}one\none\ntwo`);
        const ofBuilds = ["--quiet", "--filter", "label=sockerless.build"];
        await untilTrue(async () => {
          const { code, text } = await daemon.docker("ps", "--all", ...ofBuilds);
          return code === 0 && text === "";
        });
        const lost = await daemon.ok("images", "--all", "--quiet", "--filter", "label=sockerless.build");
        const known = await daemon.ok(
          ...["images", "--all", "--quiet", "--filter", "label=sockerless.build=state"],
        );
        assert.equal(lost, known, "each is a state of the cache");
      });
    }
  });
}
