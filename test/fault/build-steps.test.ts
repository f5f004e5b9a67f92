/** kill -9 of a process at a step of a launch whose build's next RUN runs where the last one ran: it runs once, or anew. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { build, compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilTrue } from "../support/until.ts";
import { isSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

const sample = ["workloads.launch.after:2"];
const all = [
  ...["workloads.launch.before:2", "workloads.launch.after:2"],
  ...["host.continue.renewed", "host.continue.ready", "host.continue.specified"],
];
const steps = isSoak ? all : sample;

describe("kill -9 while a step begins where the last one ran", () => {
  const directory = scratchDirectory();
  before(compileBuilder, { timeout: buildLimitMs });
  const daemon = duringTests(async () =>
    Daemon.startWithBusybox({ env: await testBuildEnv(join(directory, "step")) }),
  );

  for (const step of steps) {
    test(step, async () => {
      const armed = join(directory, "step");
      // Counts of launches begin with the backend.
      await daemon.shutDown();
      await daemon.launch();
      await writeFile(armed, step);
      const commands = ["one", "two", "three"].map(
        (name) => `RUN echo ${name} said | tee -a /log; echo x >>/${name}`,
      );
      const answer = await build(daemon.socket, `FROM busybox\n${commands.join("\n")}\n`, {
        query: { nocache: "1" },
      });
      assert.ok(!existsSync(armed), "the step was taken");
      assert.equal(answer.error, undefined, answer.text);
      assert.equal(answer.text.match(/^(one|two|three) said$/gm)?.join(), "one said,two said,three said");
      const image = answer.id ?? "";
      await untilTrue(async () => (await daemon.docker("version")).code === 0);
      assert.equal(
        await daemon.ok("run", "--rm", image, "cat", "/log", "/one", "/two", "/three"),
        "one said\ntwo said\nthree said\nx\nx\nx",
      );
      const ofBuilds = ["ps", "--all", "--quiet", "--filter", "label=sockerless.build"];
      await untilTrue(async () => (await daemon.ok(...ofBuilds)) === "");
    });
  }
});
