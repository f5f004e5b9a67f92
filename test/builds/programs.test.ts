/**
 * Builds by whole programs of others. Most of them take minutes to compile: they are run with SOCKERLESS_SOAK=1 (`npm run
 * soak -- test/builds`).
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";

import { compileBuilder } from "../support/builds.ts";
import { buildLimitMs, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { findNpmPackages } from "../support/npm-packages.ts";
import { buildProgram } from "../support/programs.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

before(compileBuilder, { timeout: buildLimitMs });
const setting = withDaemon();
const ok = (...args: string[]) => setting.daemon.ok(...args);
const inSoak = {
  skip: process.env["SOCKERLESS_SOAK"] === "1" ? false : "it takes minutes to compile: only in the soak",
  timeout: 2 * programLimitMs,
};
let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "skl-programs-"));
});
after(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Writes files beneath a directory of the test's own, and answers it. */
async function write(name: string, files: Readonly<Record<string, string>>): Promise<string> {
  for (const [file, content] of Object.entries(files)) {
    const path = join(directory, name, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
  return join(directory, name);
}

/** Runs a program as the daemon's client, and answers its output; throws where it fails. */
async function succeeds(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const own = { ...setting.daemon.clientEnv, HOME: directory, ...env };
  const { code, text, errorText } = await runCommand(program, args, { env: own, cwd: directory });
  assert.equal(code, 0, `${text}\n${errorText}`);
  return text;
}

describe("testcontainers", () => {
  const reaper = "testcontainers/ryuk:0.14.0";
  const env = {
    TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT: "1s",
    RYUK_RECONNECTION_TIMEOUT: "1s",
    TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE: "/var/run/docker.sock",
  };
  let context: string;
  before(async () => {
    context = await write("testcontainers", {
      Dockerfile:
        'FROM busybox\nARG WHO\nCOPY said /\nRUN echo "to $WHO" >> /said\nCMD ["cat", "/said"]\nUSER app\n',
      said: "It was built\n",
    });
    // Clients and the reaper itself know it by its image's label.
    const ryuk = await write("ryuk", {
      Dockerfile: 'FROM scratch\nLABEL org.testcontainers.ryuk=true\nCOPY ryuk /\nENTRYPOINT ["/ryuk"]\n',
    });
    await runCommand("cp", [await buildProgram("ryuk"), ryuk]);
    await ok("build", "--tag", reaper, ryuk);
  });

  /** Waits until the reaper has ended and nothing of a session is left. */
  async function isReaped(image: string): Promise<void> {
    await untilTrue(async () => {
      const images = await ok("images", "--quiet", image);
      return images === "" && (await ok("ps", "--all", "--quiet")) === "";
    });
  }

  test("of Node builds a Dockerfile, and has its image reaped", async (t) => {
    const found = await findNpmPackages();
    if ("missing" in found) {
      t.skip(found.missing);
      return;
    }
    const script = join(checkout, "test/programs/npm/testcontainers-build.cjs");
    for (const builder of ["classic", "buildkit"]) {
      const said = await succeeds(process.execPath, [script, context, builder], {
        ...env,
        NODE_PATH: join(found.packages, "node_modules"),
      });
      const [image = "", ...lines] = said.split("\n");
      assert.deepEqual(lines, ["It was built", "to Node"]);
      assert.match(image, /^localhost\//);
      await isReaped(image);
    }
  });

  test("of Go builds a Dockerfile, and takes its image away", inSoak, async (t) => {
    const found = await buildForeignProgram("testcontainers-go");
    if ("missing" in found) {
      t.skip(found.missing);
      return;
    }
    const before = await ok("images", "--quiet");
    assert.equal(await succeeds(found.path, [context], env), "It was built\nto Go");
    assert.equal(await ok("images", "--quiet"), before);
    await isReaped("none");
  });
});
