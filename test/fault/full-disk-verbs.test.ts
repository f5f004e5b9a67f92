/** Docker's verbs on a full disk: all that reads, ends and removes works, and the rest once there is room. */
import assert from "node:assert/strict";
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { Daemon } from "../support/daemon.ts";
import { type DaemonRole, findProcess, processOf } from "../support/processes.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { until } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

const isFull = /no space left on device/i;
const roles: readonly DaemonRole[] = ["backend", "frontend", "host"];

let disk: SmallDisk;
let daemon: Daemon;
let gate: string;

beforeEach(async () => {
  disk = await SmallDisk.mount({ sizeMib: 64 });
  gate = await mkdtemp(join(disk.directory, "gate-"));
  daemon = await Daemon.startWithBusybox({ stateDir: join(disk.path, "sockerless") });
});
afterEach(async () => {
  await disk.remount("rw");
  await disk.empty();
  await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
  await daemon.stop();
  await disk[Symbol.asyncDispose]();
});

test("a restart by policy that finds the disk full is made once there is room", async () => {
  await daemon.ok(
    "run",
    "--detach",
    "--name=policy",
    "--restart=always",
    "busybox",
    "sh",
    "-c",
    "sleep 2; exit 3",
  );
  const inspect = (format: string): Promise<string> => daemon.ok("inspect", "--format", format, "policy");
  await disk.fillUpTo(0);
  const told = await until(async () =>
    isFull.test(await inspect("{{.State.Error}}"))
      ? inspect("{{.State.Status}} {{.State.ExitCode}}")
      : undefined,
  );
  assert.equal(told, "restarting 3");
  await disk.empty();
  await until(async () => (await inspect("{{.State.Status}}")) === "running" || undefined);
});

function pids(): (number | undefined)[] {
  return roles.map((role) => findProcess(daemon, role));
}

async function run(name: string, script: string, ...options: string[]): Promise<void> {
  await daemon.ok("run", "-d", `--name=${name}`, ...options, "busybox", "sh", "-c", script);
}

/** `name status code` of each container, sorted. */
async function containers(): Promise<string[]> {
  const ids = (await daemon.ok("ps", "--all", "--quiet")).split("\n").filter((id) => id !== "");
  if (ids.length === 0) {
    return [];
  }
  const text = await daemon.ok("inspect", "--format={{.Name}} {{.State.Status}} {{.State.ExitCode}}", ...ids);
  return text.split("\n").toSorted();
}

/** Containers in every state; `hog` has taken the disk, and takes whatever becomes free. */
async function crowd(): Promise<void> {
  await run("killed", "exec sleep 1000000");
  await run("stopped", "trap 'exit 3' TERM; while :; do usleep 10000; done");
  await run("ends", "while [ ! -e /gate/open ]; do usleep 10000; done; exit 7", `--volume=${gate}:/gate`);
  await run("removed", "echo said; exec sleep 1000000");
  await daemon.ok("create", "--name=idle", "busybox", "true");
  await run("hog", "while :; do cat /dev/zero >> /fill; usleep 1000; done 2> /dev/null", "--log-driver=none");
  await untilFull();
}

/**
 * Until a command that takes room is refused, for want of it. What ends or is removed leaves room, also a while later and
 * by itself, until `hog` has it: a command that finds some is undone.
 */
async function untilRefused(command: readonly string[], undo: readonly string[] = []): Promise<void> {
  await until(async () => {
    const { code, errorText } = await daemon.docker(...command);
    if (code !== 0) {
      assert.match(errorText, isFull, command.join(" "));
      return true;
    }
    if (undo.length > 0) {
      await daemon.ok(...undo);
    }
    return undefined;
  });
}

/** Until the database has no room either. */
async function untilFull(): Promise<void> {
  await untilRefused(["volume", "create", "attempt"], ["volume", "rm", "attempt"]);
}

async function assertVerbs(): Promise<void> {
  assert.equal(await daemon.ok("exec", "removed", "echo", "exec works"), "exec works");
  assert.equal(await daemon.ok("logs", "removed"), "said");
  await daemon.ok("kill", "killed");
  await daemon.ok("stop", "stopped");
  await writeFile(join(gate, "open"), "");
  assert.equal(await daemon.ok("wait", "ends"), "7");
  await daemon.ok("rm", "--force", "removed");
  await daemon.ok("rm", "idle");
  await untilRefused(["create", "--name=new", "busybox", "true"], ["rm", "new"]);
  await untilRefused(["volume", "create", "new"], ["volume", "rm", "new"]);
  await untilRefused(["network", "create", "new"], ["network", "rm", "new"]);
  await untilRefused(["run", "--rm", "--name=new", "busybox", "true"]);
  assert.deepEqual(
    await containers(),
    ["/ends exited 7", "/hog running 0", "/killed exited 137", "/stopped exited 3"],
    daemon.output,
  );
  assert.doesNotMatch(await daemon.ok("volume", "ls"), /new/);
  assert.doesNotMatch(await daemon.ok("network", "ls"), /new/);
}

async function assertGoesOn(): Promise<void> {
  await daemon.ok("rm", "--force", "hog");
  await until(
    async () => (await daemon.docker("create", "--name=new", "busybox", "true")).code === 0 || undefined,
  );
  assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "works"), "works");
  await daemon.ok("volume", "create", "new");
  assert.doesNotMatch(daemon.output, /damaged/);
  await daemon.shutDown();
  await daemon.launch();
  assert.deepEqual(await containers(), [
    "/ends exited 7",
    "/killed exited 137",
    "/new created 0",
    "/stopped exited 3",
  ]);
}

test("on a disk that a container keeps full all is read, ended and removed, and nothing ends itself", async () => {
  const before = pids();
  const since = String(Math.floor(Date.now() / 1000));
  await crowd();
  await assertVerbs();
  assert.deepEqual(pids(), before);
  await assertGoesOn();
  const events = await daemon.ok(
    ...["events", `--since=${since}`, `--until=${Math.ceil(Date.now() / 1000)}`, "--filter=type=container"],
    "--format={{.Actor.Attributes.name}} {{.Action}}",
  );
  const told = events.split("\n").filter((line) => line.startsWith("killed ") || line.startsWith("removed "));
  assert.deepEqual(told.toSorted(), [
    "killed create",
    "killed die",
    "killed kill",
    "killed start",
    "removed create",
    "removed destroy",
    "removed die",
    "removed exec_create: echo exec works",
    "removed exec_die",
    "removed exec_start: echo exec works",
    "removed kill",
    "removed start",
  ]);
});

test("on a full disk a backend that was killed serves again, and what it knew is known", inSoak, async () => {
  await crowd();
  await daemon.ok("kill", "killed");
  const killed = await processOf(daemon, "backend");
  process.kill(killed, "SIGKILL");
  await processOf(daemon, "backend", killed);
  await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
  assert.ok((await containers()).includes("/killed exited 137"));
  await assertVerbsAfterRestart();
  await assertGoesOn();
});

async function assertVerbsAfterRestart(): Promise<void> {
  await daemon.ok("stop", "stopped");
  await writeFile(join(gate, "open"), "");
  assert.equal(await daemon.ok("wait", "ends"), "7");
  await daemon.ok("rm", "--force", "removed");
  await untilRefused(["create", "--name=new", "busybox", "true"], ["rm", "new"]);
  await daemon.ok("container", "prune", "--force", "--filter=label=none");
  await daemon.ok("rm", "idle");
}
