/** A state directory on a small file system that fills up: clear errors, nothing torn, and a store that opens again. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile, busyboxImage, dockerArchive } from "../support/images.ts";
import { tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";

const SIZE_MIB = 64;
const isFull = /no space left on device/i;

let directory: string;
let state: string;
let daemon: Daemon;

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, errorText } = await runCommand(program, args);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${errorText}`);
}

/** Leaves a file system with about so many KiB; 0: not one byte. */
async function fillUpTo(leftKib: number): Promise<void> {
  await rm(join(state, "ballast"), { force: true });
  const source = leftKib === 0 ? "cat" : `head -c ${(await available()) - leftKib}K`;
  await runCommand("sh", ["-c", `${source} < /dev/zero > ${join(state, "ballast")}`]);
}

/** Makes room again, and waits until the daemon has taken up its work. */
async function makeRoom(): Promise<void> {
  await rm(join(state, "ballast"), { force: true });
  await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
}

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "skl-full-"));
  state = join(directory, "state");
  const image = join(directory, "disk");
  await writeFile(image, "");
  await truncate(image, SIZE_MIB * 1024 * 1024);
  await must("mkfs.ext4", "-q", "-m", "0", image);
  await mkdir(state);
  await must("mount", "-o", "loop", image, state);
  daemon = await Daemon.start({ args: ["--state-dir", join(state, "sockerless")] });
  await daemon.ok("load", "--input", await busyboxArchiveFile());
});
after(async () => {
  await makeRoom();
  await daemon.stop();
  // What a container had open is closed behind the answer to its removal.
  await until(async () => (await runCommand("umount", [state])).code === 0 || undefined);
  await rm(directory, { recursive: true });
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
    "run",
    "-d",
    "--name=talker",
    "busybox",
    "sh",
    "-c",
    "while :; do echo word; usleep 100; done",
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

test("a full disk refuses creations in clear words, and the store opens again once there is room", async () => {
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
});

async function available(): Promise<number> {
  const { text } = await runCommand("df", ["--output=avail", "--block-size=1K", state]);
  return Number(text.split("\n").at(-1));
}
