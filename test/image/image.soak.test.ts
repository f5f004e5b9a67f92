/** The container image of sockerless, built and then run on the local backend of a sockerless. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { makeCertificates } from "../support/certificates.ts";
import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { buildImage, image } from "./built-image.ts";
import { expression, HclModule, readSources } from "../terraform/hcl-module.ts";
import { duringTests } from "../support/during-tests.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe("the image of sockerless", () => {
  const daemon = duringTests(() => Daemon.start());
  const directory = scratchDirectory();

  before(async () => {
    const archive = await buildImage(directory);
    const load = await daemon.docker("load", "--input", archive);
    assert.equal(load.text, `Loaded image: ${image}`, load.errorText);
  });

  it("runs sockerless", async () => {
    const { text } = await daemon.docker("run", "--rm", image, "version");
    assert.match(text, /^sockerless \S+, commit [0-9a-f]{40}, \d{4}-\d{2}-\d{2}$/);
  });

  it("runs without root on a read-only file system, and passes the exit code on", async () => {
    const run = await daemon.docker("run", "--rm", "--read-only", image, "serve", "--backend=ecs");
    assert.equal(run.code, 1);
    assert.match(run.errorText, /ecs\.region is required/);
  });

  it("holds no tests, no development packages and no shell", async () => {
    const script = `
      const { existsSync, globSync } = require("fs");
      console.log(JSON.stringify({
        tests: globSync("/opt/sockerless/dist/**/*.test.js"),
        there: ["/bin/sh", "/opt/sockerless/node_modules/typescript", "/opt/sockerless/node_modules/node"].filter(existsSync),
        agent: existsSync("/opt/sockerless/build/sockerless-agent"),
        arenas: process.env.MALLOC_ARENA_MAX,
      }));`;
    const run = await daemon.docker("run", "--rm", "--entrypoint=node", image, "--eval", script);
    assert.deepEqual(JSON.parse(run.text), { tests: [], there: [], agent: true, arenas: "2" });
  });

  it("serves as a second frontend of the backend that runs it", async () => {
    const socket = join(daemon.directory, "inner.sock");
    const frontend = await daemon.docker(
      "run",
      "--detach",
      "--name=frontend",
      "--user=0", // The socket of the daemon is root's.
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

  it("serves over mutual TLS as the ECS service sets it up: prepared, read-only, without root", async () => {
    const { server, client } = await makeCertificates(directory);
    const files = { TLS_CA: server.ca, TLS_CERT: server.cert, TLS_KEY: server.key };
    const variables = Object.entries(files).map(
      ([name, path]) => `--env=${name}=${readFileSync(path, "utf8")}`,
    );
    const names = JSON.stringify({ TLS_CA: "ca.pem", TLS_CERT: "cert.pem", TLS_KEY: "key.pem" });
    const common = ["--read-only", "--volume=run:/run/sockerless"];
    const prepare = ["--rm", "--user=0", "--entrypoint=node", `--env=FILES=${names}`, ...variables];
    await daemon.ok("run", ...common, ...prepare, image, "--eval", await prepareScript());

    await chmod(daemon.backendSocket, 0o666);
    const service = ["--detach", "--name=service", "--user=10001", "--publish=127.0.0.1::2376"];
    await daemon.ok(
      "run",
      ...[...common, ...service, "--env=TMPDIR=/run/sockerless/tmp"],
      `--volume=${daemon.backendSocket}:/run/backend.sock`,
      image,
      ...["frontend", "--backend-address=unix:///run/backend.sock", "--host=tcp://0.0.0.0:2376"],
      ...["--tlscacert=/run/sockerless/ca.pem", "--tlscert=/run/sockerless/cert.pem"],
      "--tlskey=/run/sockerless/key.pem",
    );
    await logSays(daemon, "service", /the Docker API is served/);
    const host = `tcp://${await daemon.ok("port", "service", "2376")}`;
    const trust = ["--host", host, "--tlsverify", "--tlscacert", client.ca];
    const known = ["--tlscert", client.cert, "--tlskey", client.key];
    const listed = await runCommand("docker", [...trust, ...known, "ps", "--format={{.Names}}"]);
    assert.deepEqual([listed.text, listed.errorText], ["service", ""]);
    const stranger = await runCommand("docker", [...trust, "ps"], { env: daemon.clientEnv });
    assert.notEqual(stranger.code, 0);
    assert.match(
      stranger.errorText,
      /certificate required|handshake failure|bad certificate|reset by peer|broken pipe/,
    );
    await daemon.ok("rm", "--force", "service");
    await daemon.ok("volume", "rm", "run");
  });
});

/** Waits until a container's log says something. */
async function logSays(daemon: Daemon, container: string, what: RegExp): Promise<void> {
  const logs = spawn("docker", ["logs", "--follow", container], {
    env: daemon.clientEnv,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
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

/**
 * The script that the first container of the ECS service runs, for the directories of its task definition.
 */
async function prepareScript(): Promise<string> {
  const module = await HclModule.parse(readSources("modules/ecs-service"));
  const values: Readonly<Record<string, string>> = {
    run_dir: expression(module.local("run_dir")),
    user: expression(module.local("user")),
  };
  return expression(module.local("prepare_script")).replaceAll(
    /\$\{local\.(\w+)\}/g,
    (_, name: string) => values[name] ?? assert.fail(name),
  );
}
