/** The container image of sockerless, built and then run on the local backend of a sockerless. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { version } from "../../src/common/version.ts";
import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";

const image = `sockerless:${version}`;

describe("the image of sockerless", () => {
  let daemon: Daemon;
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "sockerless-image-"));
    const archive = join(directory, "image.tar");
    const build = await runCommand(
      process.execPath,
      ["--import", "tsx", "scripts/image.ts", "--output", archive, "--gzip-level", "1"],
      { cwd: checkout },
    );
    assert.equal(build.code, 0, build.errorText);
    assert.match(build.text, /^sockerless:\S+@sha256:[0-9a-f]{64}$/);
    daemon = await Daemon.start();
    const load = await daemon.docker("load", "--input", archive);
    assert.equal(load.text, `Loaded image: ${image}`, load.errorText);
  });

  after(async () => {
    await daemon?.stop();
    await rm(directory, { recursive: true });
  });

  it("runs sockerless", async () => {
    assert.equal((await daemon.docker("run", "--rm", image, "version")).text, `sockerless ${version}`);
  });

  it("runs without root on a read-only file system, and passes the exit code on", async () => {
    const run = await daemon.docker(
      "run",
      "--rm",
      "--read-only",
      "--user=10001",
      image,
      "serve",
      "--backend=ecs",
    );
    assert.equal(run.code, 1);
    assert.match(run.errorText, /ecs\.cluster is required/);
  });

  it("prepares files with Node, as the ECS service does", async () => {
    const script =
      'require("fs").writeFileSync("/run/sockerless/file", process.env.TEXT); console.log("written")';
    const flags = [
      "--rm",
      "--read-only",
      "--user=0",
      "--tmpfs=/run/sockerless",
      "--env=TEXT=x",
      "--entrypoint=node",
    ];
    assert.equal((await daemon.docker("run", ...flags, image, "--eval", script)).text, "written");
  });

  it("holds no tests, no development packages and no shell", async () => {
    const script = `
      const { existsSync, globSync } = require("fs");
      console.log(JSON.stringify({
        tests: globSync("/opt/sockerless/dist/**/*.test.js"),
        there: ["/bin/sh", "/opt/sockerless/node_modules/typescript", "/opt/sockerless/node_modules/node"].filter(existsSync),
        agent: existsSync("/opt/sockerless/build/sockerless-agent"),
      }));`;
    const run = await daemon.docker("run", "--rm", "--entrypoint=node", image, "--eval", script);
    assert.deepEqual(JSON.parse(run.text), { tests: [], there: [], agent: true });
  });

  it("serves as a second frontend of the backend that runs it", async () => {
    const socket = join(daemon.directory, "inner.sock");
    const frontend = await daemon.docker(
      "run",
      "--detach",
      "--name=frontend",
      "--read-only",
      `--volume=${daemon.directory}:${daemon.directory}`,
      image,
      "frontend",
      `--backend-address=unix://${daemon.backendSocket}`,
      `--host=unix://${socket}`,
    );
    assert.equal(frontend.code, 0, frontend.errorText);
    await logSays(daemon, "frontend", /the Docker API is served/);
    const inner = (...args: string[]) => runCommand("docker", ["--host", `unix://${socket}`, ...args]);
    assert.equal((await inner("ps", "--format={{.Names}}")).text, "frontend");
    const exec = await inner("exec", "frontend", "node", "--print", "6 * 7");
    assert.equal(exec.text, "42", exec.errorText);
    assert.equal((await daemon.docker("stop", "frontend")).code, 0);
    const { text } = await daemon.docker("inspect", "--format={{.State.ExitCode}}", "frontend");
    assert.equal(text, "0");
  });
});

/** Waits until a container's log says something. */
async function logSays(daemon: Daemon, container: string, what: RegExp): Promise<void> {
  const logs = spawn("docker", ["logs", "--follow", container], {
    env: daemon.clientEnv,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 30_000,
  });
  const ended = once(logs, "close");
  let said = "";
  for (const stream of [logs.stdout, logs.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (what.test(said)) {
        logs.kill();
      }
    });
  }
  await ended;
  assert.match(said, what);
}
