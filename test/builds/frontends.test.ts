/** Dockerfile frontends that are images: foreign ones, and pinned ones. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { copyFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, type TestContext, test } from "node:test";

import { build, built, compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { processOf } from "../support/processes.ts";
import { TestRegistry } from "../support/registry.ts";
import { inSoak } from "../support/soak.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon, ok } = withDaemon();

/** As BuildKit's own image of it has them. */
const labels = `LABEL moby.buildkit.frontend.network.none="true"
LABEL moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts"
`;

describe("a Dockerfile frontend in an image", () => {
  const registry = duringTests(() => TestRegistry.start(), { timeout: pluginLimitMs + programLimitMs });
  const directory = scratchDirectory();
  let missing: string | undefined;
  /** With its digest. */
  let pinned: string;

  const buildx = (...args: string[]) =>
    daemon.docker("buildx", "build", "--progress", "plain", ...args, directory);
  const needed = (work: () => Promise<void>) => async (t: TestContext) => {
    if (missing === undefined) {
      await work();
    } else {
      t.skip(missing);
    }
  };

  before(
    async () => {
      const program = await buildForeignProgram("frontend");
      const plugin = await findPlugin("buildx");
      if ("missing" in program || "missing" in plugin) {
        missing = "missing" in program ? program.missing : (plugin as { missing: string }).missing;
        return;
      }
      await installPlugin(daemon, plugin.path);
      await copyFile(program.path, join(directory, "frontend"));
      const dockerfile = `FROM scratch\n${labels}COPY --chmod=755 frontend /bin/\nENTRYPOINT ["/bin/frontend"]\n`;
      await writeFile(join(directory, "Dockerfile"), dockerfile);
      const name = `${registry.host}/own/frontend:1`;
      const made = await buildx("--tag", name, "--push");
      assert.equal(made.code, 0, made.errorText);
      pinned = await ok("inspect", "--format", "{{index .RepoDigests 0}}", name);
      await rm(join(directory, "frontend"));
      await writeFile(join(directory, "a"), "of the context\n");
    },
    { timeout: pluginLimitMs + programLimitMs },
  );

  const write = (syntax: string) =>
    writeFile(
      join(directory, "Dockerfile"),
      `${syntax}FROM busybox AS first
ARG TOLD=nothing
RUN echo $TOLD > /told
FROM busybox
COPY a /a
COPY --from=first /told /told
COPY <<END /here
a here-document
END
RUN cat /a /told /here > /out
`,
    );

  const assertBuilt = async (tag: string) => {
    assert.equal(await ok("run", "--rm", tag, "cat", "/out"), "of the context\ntold\na here-document");
    assert.equal(await ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build"), "");
  };

  test(
    "runs as a container, told what the build's client says, and is asked again from the cache",
    needed(async () => {
      await write(`# syntax=${registry.host}/own/frontend:1\n`);
      const args = ["--build-arg", "TOLD=told", "--tag", "foreign:1"];
      const made = await buildx(...args);
      assert.equal(made.code, 0, made.errorText);
      assert.match(made.errorText, /resolve image config for docker-image:\/\/\S+own\/frontend:1/);
      await assertBuilt("foreign:1");
      const again = await buildx(...args);
      assert.match(again.errorText, /RUN cat .*\n#\d+ CACHED\n/);
    }),
  );

  test(
    "is the one that a digest names, or a build argument",
    needed(async () => {
      await write("");
      const made = await buildx(
        ...["--build-arg", `BUILDKIT_SYNTAX=${pinned}`, "--build-arg", "TOLD=told", "-t", "foreign:2"],
      );
      assert.equal(made.code, 0, made.errorText);
      assert.match(made.errorText, /own\/frontend@sha256:/);
      await assertBuilt("foreign:2");
    }),
  );

  test(
    "tells its errors as BuildKit does, with the line",
    needed(async () => {
      await writeFile(
        join(directory, "Dockerfile"),
        `# syntax=${registry.host}/own/frontend:1\nFROM busybox\nRUN echo said; exit 7\nNOT AN INSTRUCTION\n`,
      );
      const wrong = await buildx();
      assert.equal(wrong.code, 1);
      assert.match(wrong.errorText, /dockerfile parse error on line 4: unknown instruction: NOT/);
      await writeFile(
        join(directory, "Dockerfile"),
        `# syntax=${registry.host}/own/frontend:1\nFROM busybox\nRUN echo said; exit 7\n`,
      );
      const failed = await buildx();
      assert.match(failed.errorText, /Dockerfile:3\n.*>>> RUN echo said; exit 7\n.*exit code: 7/s);
    }),
  );

  test(
    "is made again where the backend is killed as it begins",
    inSoak,
    needed(async () => {
      const directoryOfKills = scratchDirectory();
      const armed = join(directoryOfKills, "step");
      await using daemon = await Daemon.start({ env: await testBuildEnv(armed) });
      await daemon.ok("load", "--input", await busyboxArchiveFile());
      const plugin = await findPlugin("buildx");
      assert.ok("path" in plugin);
      await installPlugin(daemon, plugin.path);
      await write(`# syntax=${registry.host}/own/frontend:1\n`);
      await daemon.ok("pull", `${registry.host}/own/frontend:1`);
      for (const step of ["workloads.launch.before", "workloads.launch.after"]) {
        const victim = await processOf(daemon, "backend");
        await writeFile(armed, step);
        const args = ["--progress", "plain", "--build-arg", `TOLD=${step}`, "--tag", "killed", directory];
        const made = await daemon.docker("buildx", "build", ...args);
        assert.equal(made.code, 0, made.errorText);
        assert.ok(!existsSync(armed), "the step was taken");
        await processOf(daemon, "backend", victim);
        const told = `of the context\n${step}\na here-document`;
        assert.equal(await daemon.ok("run", "--rm", "killed", "cat", "/out"), told);
        assert.equal(await daemon.ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build"), "");
      }
    }),
  );

  test(
    "that is not there, or is none, fails its build and leaves nothing",
    needed(async () => {
      const { error } = await build(daemon.socket, `# syntax=${registry.host}/no/frontend\nFROM busybox\n`);
      assert.match(error?.message ?? "", /no\/frontend/);
      const none = await build(daemon.socket, "# syntax=busybox\nFROM busybox\n");
      assert.ok(none.error !== undefined, none.text);
      assert.equal(await ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build"), "");
    }),
  );

  test("prints no more into the daemon's log than a bound", async () => {
    const script = "head -c 1000000 /dev/zero | tr '\\\\000' A >&2";
    await built(daemon.socket, `FROM busybox\nENTRYPOINT ["sh", "-c", "${script}"]\n`, {
      query: { t: "printing" },
    });
    const { error } = await build(daemon.socket, "# syntax=printing\nFROM busybox\n");
    assert.ok(error !== undefined);
    const printed = (): string | undefined => /a frontend in an image printed: (A+)/.exec(daemon.output)?.[1];
    await untilTrue(() => printed() !== undefined);
    assert.equal(printed()?.length, 16 * 1024);
    assert.ok(!daemon.output.includes("A".repeat(16 * 1024 + 1)));
  });
});
