/** Commands that an operator asks a running daemon with. */
import assert from "node:assert/strict";
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import type { DaemonStatus } from "../../src/cli/status.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon } = withDaemon();
const program = join(checkout, "bin/sockerless");

const run = (...args: string[]) => runCommand(program, args, { env: daemon.clientEnv });

test("status tells processes, backend and containers, as a table and as JSON", async () => {
  const id = await daemon.ok("run", "--detach", "busybox", "sleep", "1000");
  const { code, text } = await run("status", "--format", "json");
  assert.equal(code, 0);
  const status = JSON.parse(text) as DaemonStatus;
  assert.deepEqual(
    [status.host, status.backend, status.stateDirectory, status.containers.running, status.waiting],
    [daemon.host, "local", daemon.stateDir, 1, []],
  );
  const programs = status.processes.map(({ program: name }) => name);
  for (const name of ["supervisor", "frontend", "backend", "host"]) {
    assert.ok(programs.includes(name), text);
  }
  assert.ok(status.processes.every(({ bytes }) => bytes > 0));
  const table = await run("status");
  assert.match(table.text, /^Containers +1 running, 0 paused, 0 stopped$/m);
  assert.match(table.text, /^Process +backend \d+, \d+ MiB$/m);
  await daemon.ok("rm", "--force", id);
});

test("status says where nothing answers", async () => {
  const { code, errorText } = await run("status", "--host", "unix:///nowhere.sock");
  assert.equal(code, 1);
  assert.match(errorText, /the Docker API does not answer/);
});

test("context makes a docker context that leads here, and changes it when it is asked again", async () => {
  const { DOCKER_HOST: _, ...env } = daemon.clientEnv;
  const made = await run("context", "here");
  assert.match(made.text, /^made the context here: unix:/);
  const { text } = await runCommand("docker", ["--context", "here", "info", "--format", "{{.ID}}"], { env });
  assert.equal(text, await daemon.ok("info", "--format", "{{.ID}}"));
  const changed = await run("context", "here", "--use");
  assert.match(changed.text, /^changed the context here/);
  const current = await runCommand("docker", ["context", "show"], { env });
  assert.equal(current.text, "here");
});

test("doctor finds this machine well enough, and what is served taken", async () => {
  const args = ["doctor", "--host", daemon.host, "--state-dir", daemon.stateDir, "--format", "json"];
  const { text } = await run(...args);
  const findings = JSON.parse(text) as { readonly check: string; readonly status: string }[];
  const statusOf = (name: string): string | undefined => findings.find(({ check }) => check === name)?.status;
  assert.deepEqual([statusOf("user"), statusOf("kernel"), statusOf("runtime")], ["ok", "ok", "ok"], text);
  assert.equal(statusOf("addresses"), "warning", text);
  const broken = await run("doctor", "--runtime", "no-such-runtime");
  assert.equal(broken.code, 1);
  assert.match(broken.text, /^wrong +runtime +no OCI runtime works/m);
});

test("debug writes versions, settings, status and log, and no secret of them", async () => {
  const directory = scratchDirectory();
  const [file, config, log] = ["debug.tar.gz", "config.yaml", "sockerless.log"].map((name) =>
    join(directory, name),
  ) as [string, string, string];
  await writeFile(log, "a line\nhttp://me:hush1hush@registry.example.com refused\n");
  const aca = {
    ...{ subscription_id: "s", resource_group: "g", managed_environment_name: "e", location: "westeurope" },
    ...{ storage_account_key: "hush2hush", registry_password: "hush3hush", agent_ca: "hush4hush" },
    registry_server: "registry.example.com",
  };
  await writeFile(config, JSON.stringify({ backend: "aca", log_file: log, aca }));
  const { code, text, errorText } = await run("debug", file, "--config", config);
  assert.equal(code, 0, errorText);
  assert.match(text, /settings\.json: /);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const read = async (name: string): Promise<string> =>
    (await runCommand("tar", ["--extract", "--gzip", "--to-stdout", "--file", file, name])).text;
  const names = ["CONTENTS.txt", "versions.json", "settings.json", "status.json", "log.txt"];
  const parts = new Map<string, string>();
  for (const name of names) {
    parts.set(name, await read(name));
  }
  const all = [...parts.values()].join("\n");
  assert.doesNotMatch(all, /hush/);
  assert.match(parts.get("settings.json") ?? "", /"registryPassword": "\(set, not told\)"/);
  assert.match(parts.get("settings.json") ?? "", /"registryServer": "registry.example.com"/);
  assert.equal((JSON.parse(parts.get("status.json") ?? "") as DaemonStatus).stateDirectory, daemon.stateDir);
  assert.match(parts.get("log.txt") ?? "", /^a line\nhttp:\/\/me:\*\*\*@registry/);
  assert.match(parts.get("versions.json") ?? "", /"sockerless": /);
  const again = await run("debug", file);
  assert.notEqual(again.code, 0);
});
