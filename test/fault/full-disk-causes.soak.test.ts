/** Other reasons for which nothing can be written: no inode is left, the run directory is full, the disk is read-only. */
import assert from "node:assert/strict";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { type DaemonRole, findProcess } from "../support/processes.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const isFull = /no space left on device/i;
const containers = ["killed", "stopped", "removed"];
const roles: readonly DaemonRole[] = ["backend", "frontend", "host"];

let disk: SmallDisk;
let daemon: Daemon;

async function start(mkfs: readonly string[], runDir?: string): Promise<void> {
  disk = await SmallDisk.mount({ sizeMib: 64, mkfs });
  daemon = await Daemon.startWithBusybox({
    stateDir: join(disk.path, "sockerless"),
    ...(runDir === undefined ? {} : { args: ["--run-dir", runDir] }),
  });
  for (const name of containers) {
    await daemon.ok(
      ...["run", "-d", `--name=${name}`, "busybox"],
      ...["sh", "-c", "trap 'exit 3' TERM; echo said; while :; do usleep 10000; done"],
    );
  }
  for (const name of containers) {
    // Before its trap is there, SIGTERM is nothing to it.
    await until(async () => (await daemon.docker("logs", name)).text === "said" || undefined);
  }
}

afterEach(async () => {
  await daemon.stop();
  await disk[Symbol.asyncDispose]();
});

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, errorText } = await runCommand(program, args);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${errorText}`);
}

function pids(): (number | undefined)[] {
  return roles.map((role) => findProcess(daemon, role));
}

async function assertReading(): Promise<void> {
  assert.match(await daemon.ok("ps"), /removed/);
  assert.equal(await daemon.ok("inspect", "--format={{.Name}}", "removed"), "/removed");
  await until(async () => (await daemon.docker("logs", "removed")).text === "said" || undefined);
}

async function assertEnding(): Promise<void> {
  await daemon.ok("kill", "killed");
  assert.equal(await daemon.ok("wait", "killed"), "137");
  await daemon.ok("stop", "stopped");
  assert.equal(await daemon.ok("inspect", "--format={{.State.ExitCode}}", "stopped"), "3");
  await daemon.ok("rm", "--force", "removed");
  await daemon.ok("container", "prune", "--force");
  assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
}

test("without an inode left all is read, ended and removed", async () => {
  await start(["-N", "2000"]);
  const before = pids();
  const directory = join(disk.path, "ballast");
  await mkdir(directory);
  await runCommand("sh", ["-c", "n=0; while : > $n; do n=$((n + 1)); done"], { cwd: directory });
  await assertReading();
  const { code, errorText } = await daemon.docker("create", "busybox", "true");
  assert.notEqual(code, 0);
  assert.match(errorText, isFull);
  assert.equal(await daemon.ok("exec", "removed", "echo", "works"), "works");
  await assertEnding();
  assert.deepEqual(pids(), before);
  await rm(directory, { recursive: true });
  await until(async () => (await daemon.docker("run", "--rm", "busybox", "true")).code === 0 || undefined);
});

test("with a run directory that is full all is read, ended and removed", async () => {
  const runDirectory = scratchDirectory();
  await must("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", runDirectory);
  await start([], runDirectory);
  const before = pids();
  const ballast = join(runDirectory, "ballast");
  await runCommand("sh", ["-c", `cat < /dev/zero > ${ballast}`]);
  await assertReading();
  await daemon.docker("exec", "removed", "echo", "works");
  const { code, errorText } = await daemon.docker("run", "--rm", "busybox", "true");
  assert.ok(code === 0 || isFull.test(errorText), errorText);
  await assertEnding();
  assert.deepEqual(pids(), before);
  await rm(ballast);
  await until(async () => (await daemon.docker("run", "--rm", "busybox", "true")).code === 0 || undefined);
  await daemon.stop();
  await until(async () => (await runCommand("umount", [runDirectory])).code === 0 || undefined);
});

test("on a disk that is read-only all is read, the rest is refused in clear words, and goes on once it is not", async () => {
  await start([]);
  await daemon.ok("stop", "--timeout=5", "killed", "stopped", "removed");
  await daemon.shutDown();
  await until(
    async () =>
      await disk.remount("ro").then(
        () => true,
        () => undefined,
      ),
  );
  await daemon.launch();
  const before = pids();
  assert.match(await daemon.ok("ps", "--all"), /removed/);
  assert.equal(await daemon.ok("inspect", "--format={{.State.ExitCode}}", "removed"), "3");
  assert.equal(await daemon.ok("logs", "removed"), "said");
  for (const refused of [
    ["create", "busybox", "true"],
    ["volume", "create", "new"],
    ["network", "create", "new"],
    ["rename", "killed", "other"],
    ["start", "stopped"],
    ["rm", "removed"],
  ]) {
    const { code, errorText } = await daemon.docker(...refused);
    assert.notEqual(code, 0, refused.join(" "));
    assert.match(errorText, /read-only file system/, refused.join(" "));
  }
  assert.match(await daemon.ok("ps", "--all"), /removed/);
  assert.deepEqual(pids(), before);
  await disk.remount("rw");
  await until(async () => (await daemon.docker("run", "--rm", "busybox", "true")).code === 0 || undefined);
  await daemon.ok("rm", "killed", "stopped", "removed");
  assert.deepEqual(pids(), before);
});
