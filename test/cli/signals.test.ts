/** Signals that a daemon's processes are sent by others: none opens a debugger, and SIGHUP ends nothing. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Daemon } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { findShim, isAlive, openFiles, processOf } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const directory = scratchDirectory();
const config = join(directory, "config.yaml");
writeFileSync(config, "log_level: info\n");
const daemon = duringTests(() => Daemon.startWithBusybox({ args: ["--config", config] }));

/** The Node processes of the daemon: supervisor, backend and frontend. */
function nodeProcesses(): number[] {
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => /^PPid:\t(\d+)$/m.exec(statusOf(pid))?.[1] === String(daemon.pid));
  return [daemon.pid, ...children];
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return "";
  }
}

/** Local addresses of the TCP sockets that a process listens on. */
function listeningOn(pid: number): string[] {
  const own = new Set(openFiles(pid));
  return ["tcp", "tcp6"].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , state, , , , , , inode]) => state === "0A" && own.has(`socket:[${inode}]`))
      .map(([, address = ""]) => address),
  );
}

/** True if the process has a handler for a signal. */
function handles(pid: number, signal: number): boolean {
  const mask = BigInt(`0x${/^SigCgt:\s+(\S+)$/m.exec(statusOf(pid))?.[1]}`);
  return ((mask >> BigInt(signal - 1)) & 1n) === 1n;
}

/** True if the process ignores a signal. */
function ignores(pid: number, signal: number): boolean {
  const mask = BigInt(`0x${/^SigIgn:\s+(\S+)$/m.exec(statusOf(pid))?.[1]}`);
  return ((mask >> BigInt(signal - 1)) & 1n) === 1n;
}

test("SIGUSR1 opens no debugger in any process, and ends none", async () => {
  const pids = nodeProcesses();
  assert.equal(pids.length, 3);
  for (const pid of pids) {
    assert.equal(handles(pid, 10), false, `process ${pid} waits for SIGUSR1`);
    process.kill(pid, "SIGUSR1");
  }
  // An answer of each process: whatever the signal started would have begun by then.
  await daemon.ok("version");
  process.kill(daemon.pid, "SIGHUP");
  await until(
    () => (daemon.output.match(/"process":"(backend|frontend)".*SIGHUP/g)?.length ?? 0) >= 2 || undefined,
  );
  for (const pid of pids) {
    assert.ok(isAlive(pid));
    assert.deepEqual(listeningOn(pid), []);
  }
});

test("SIGHUP ends neither the host process nor a shim", async () => {
  await daemon.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000");
  const shim = findShim(daemon, await daemon.ok("inspect", "--format", "{{.Id}}", "box"));
  const before = await processOf(daemon, "host");
  for (const pid of [before, shim]) {
    assert.ok(pid !== undefined && handles(pid, 1) !== ignores(pid, 1), `process ${pid} ends at SIGHUP`);
    process.kill(pid, "SIGHUP");
  }
  await daemon.ok("exec", "box", "true");
  await daemon.ok("run", "--rm", "busybox", "true");
  assert.equal(await processOf(daemon, "host"), before);
  await daemon.ok("rm", "-f", "box");
});

test("SIGHUP has the log level of the configuration hold, and a file that is none changes nothing", async () => {
  const file = join(directory, "config.yaml");
  const requests = (): number => daemon.output.split('"msg":"request"').length;
  const reload = async (text: string, told: string): Promise<void> => {
    const before = daemon.output.length;
    await writeFile(file, text);
    process.kill(daemon.pid, "SIGHUP");
    for (const name of ["frontend", "backend"]) {
      await until(
        () =>
          new RegExp(`"process":"${name}".*SIGHUP: ${told}`).test(daemon.output.slice(before)) || undefined,
      );
    }
  };
  await daemon.ok("version");
  assert.equal(requests(), 1);
  await reload("log_level: debug\n", ".*the log level is debug");
  await daemon.ok("version");
  await until(() => requests() > 1 || undefined);
  assert.equal(await daemon.ok("info", "--format", "{{.Debug}}"), "true");
  await reload("log_level: [\n", "there is nothing to read again; other");
  await until(
    () =>
      /"process":"supervisor".*the configuration could not be read again/.exec(daemon.output) ?? undefined,
  );
  await reload("log_level: info\n", ".*the log level is info");
  assert.equal(await daemon.ok("info", "--format", "{{.Debug}}"), "false");
});

test("SIGHUP ends nothing and says that there is nothing to read again", async () => {
  const before = nodeProcesses();
  const told = daemon.output.length;
  process.kill(daemon.pid, "SIGHUP");
  await until(
    () => daemon.output.slice(told).split("there is nothing to read again").length > 2 || undefined,
  );
  await daemon.ok("version");
  assert.deepEqual(nodeProcesses(), before);
});
