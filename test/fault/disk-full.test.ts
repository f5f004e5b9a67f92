/** A state directory on a small file system that fills up: clear errors, nothing torn, and a store that opens again. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { busyboxImage, dockerArchive } from "../support/images.ts";
import { findShim, isAlive, processOf } from "../support/processes.ts";
import { tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

const sizeMib = 64;
const isFull = /no space left on device/i;

const directory = scratchDirectory();
let state: string;
let daemon: Daemon;

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, errorText } = await runCommand(program, args);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${errorText}`);
}

/** Leaves a file system with about so many KiB; 0: not one byte. */
async function fillUpTo(leftKib: number): Promise<void> {
  const ballast = join(state, "ballast");
  await rm(ballast, { force: true, recursive: true });
  await mkdir(ballast);
  // A large file leaves what ext4 sets aside for writing one; small files take that too.
  const script =
    leftKib === 0
      ? "cat < /dev/zero > large; n=0; while echo x > $n; do n=$((n + 1)); done"
      : `head -c ${(await available()) - leftKib}K < /dev/zero > large`;
  await runCommand("sh", ["-c", script], { cwd: ballast });
}

/** Takes what becomes free, which what is removed does a while later too. Disposing ends that. */
function keepFull(): AsyncDisposable {
  const script =
    'n=0; while :; do cat < /dev/zero >> large; n=$((n + 1)); echo x > "more$n"; sleep 0.02; done';
  const child = spawn("sh", ["-c", script], { cwd: join(state, "ballast"), stdio: "ignore", detached: true });
  const ended = once(child, "exit");
  return {
    [Symbol.asyncDispose]: async () => {
      process.kill(-(child.pid ?? assert.fail("no shell")), "SIGKILL");
      await ended;
    },
  };
}

/** Makes room again, and waits until the daemon has taken up its work. */
async function makeRoom(): Promise<void> {
  await rm(join(state, "ballast"), { force: true, recursive: true });
  await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
}

before(async () => {
  state = join(directory, "state");
  const image = join(directory, "disk");
  await writeFile(image, "");
  await truncate(image, sizeMib * 1024 * 1024);
  await must("mkfs.ext4", "-q", "-m", "0", image);
  await mkdir(state);
  await must("mount", "-o", "loop", image, state);
  daemon = await Daemon.startWithBusybox({ stateDir: join(state, "sockerless") });
});
after(async () => {
  await makeRoom();
  await daemon.stop();
  // Files that a container had open are closed behind the answer to its removal.
  await until(async () => (await runCommand("umount", [state])).code === 0 || undefined);
});

test("an image that does not fit is refused as such, and leaves no bytes", async () => {
  await fillUpTo(8 * 1024);
  const base = await busyboxImage();
  const large = await tarOf([{ name: "large", content: Buffer.alloc(30 * 1024 * 1024, "x") }]);
  const archive = join(directory, "large.tar");
  await writeFile(
    archive,
    await dockerArchive([{ image: { ...base, layers: [...base.layers, large] }, tags: ["large:latest"] }]),
  );
  const before = await available();
  const loaded = await daemon.docker("load", "--input", archive);
  assert.notEqual(loaded.code, 0);
  assert.match(loaded.errorText, isFull);
  await until(async () => (await available()) >= before - 200 || undefined);
  assert.doesNotMatch(await daemon.ok("images"), /large/);
});

test("a container that fills the disk gets ENOSPC, its log too, and it ends as it says", async () => {
  const script = 'cat /dev/zero > /fill; echo "exit $?"; rm /fill; echo room; exit 4';
  const result = await daemon.docker("run", "--name=filler", "busybox", "sh", "-c", script);
  assert.equal(result.code, 4, result.errorText);
  assert.match(result.errorText, isFull);
  assert.match(result.text, /exit 1\nroom/);
  await daemon.ok("rm", "filler");
});

test("a log that finds no room loses lines, not the container", async () => {
  await daemon.ok(
    ...["run", "-d", "--name=talker", "busybox", "sh", "-c", "while :; do echo word; usleep 100; done"],
  );
  await fillUpTo(0);
  assert.match(await daemon.ok("top", "talker"), /sh -c while/);
  await makeRoom();
  await until(
    async () => (await daemon.docker("exec", "talker", "echo", "alive")).text === "alive" || undefined,
  );
  await until(async () => (await daemon.docker("logs", "--tail=1", "talker")).text === "word" || undefined);
  await daemon.ok("rm", "--force", "talker");
});

test("a container that ends on a full disk while no backend runs is known with its exit code", async () => {
  const gate = await mkdtemp(join(directory, "gate-"));
  const id = await daemon.ok(
    ...["run", "-d", "--name=unrecorded", `--volume=${gate}:/gate`, "busybox"],
    ...["sh", "-c", "while test ! -e /gate/open; do usleep 10000; done; exit 7"],
  );
  const pid = Number(await daemon.ok("inspect", "--format={{.State.Pid}}", id));
  const shim = findShim(daemon, id) ?? assert.fail("no shim");
  const backend = await processOf(daemon, "backend");
  process.kill(daemon.pid, "SIGSTOP"); // no other backend is started
  try {
    process.kill(backend, "SIGKILL");
    await until(() => !isAlive(backend) || undefined);
    await fillUpTo(0);
    await using _full = keepFull();
    await writeFile(join(gate, "open"), "");
    await until(() => !isAlive(pid) || undefined);
    // Longer than a shim stays that nobody watches and that has recorded the end.
    await delay(7_000);
    assert.ok(isAlive(shim), "the shim keeps what it cannot record");
  } finally {
    await rm(join(state, "ballast"), { recursive: true, maxRetries: 5 });
    process.kill(daemon.pid, "SIGCONT");
  }
  await makeRoom();
  await until(
    async () =>
      (await daemon.ok("inspect", "--format={{.State.Status}} {{.State.ExitCode}}", id)) === "exited 7" ||
      undefined,
  );
  await until(() => !isAlive(shim) || undefined);
  await daemon.ok("rm", id);
});

test(
  "a full disk refuses creations in clear words, and the store opens again once there is room",
  inSoak,
  async () => {
    await daemon.ok("create", "--name=kept", "busybox", "true");
    await fillUpTo(0);
    const refused: string[] = [];
    for (let n = 0; n < 300 && refused.length < 3; n++) {
      const { code, errorText } = await daemon.docker("create", "busybox", "true");
      if (code !== 0) {
        refused.push(errorText);
      }
    }
    assert.ok(refused.length > 0, "the disk is full");
    assert.match(refused[0] ?? "", isFull);
    await makeRoom();
    await daemon.shutDown();
    await daemon.launch();
    assert.match(await daemon.ok("ps", "--all", "--format={{.Names}}"), /kept/);
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "works"), "works");
  },
);

async function available(): Promise<number> {
  const { text } = await runCommand("df", ["--output=avail", "--block-size=1K", state]);
  return Number(text.split("\n").at(-1));
}
