/** The state on a disk that ends after each byte of a commit: what was answered is there, whole, and nothing else is. */
import assert from "node:assert/strict";
import { cp, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { openState, type State, type StateOptions } from "../../src/backends/state/state.ts";
import { messageOf } from "../../src/common/errors.ts";
import { ManualClock } from "../../src/common/manual-clock.ts";
import { ContainerRecordSchema, type ContainerRecord } from "../../src/gen/sockerless/state/v1/state_pb.ts";
import { runCommand } from "../support/command.ts";
import { inSoak, isSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

const pageBytes = 4096;
/** Bytes between the places in a page at which the disk ends. */
const padStep = isSoak ? 13 : 397;
const sizeKib = 1024;
const spareHalfBytes = 64 * 1024;

let directory: string;
let disk: string;
let state: State | undefined;

async function must(program: string, ...args: string[]): Promise<void> {
  const { code, errorText } = await runCommand(program, args);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${errorText}`);
}

async function remount(options: string): Promise<void> {
  await must("mount", "-o", `remount,${options}`, disk);
}

/** Leaves so many pages. */
async function leave(pages: number): Promise<void> {
  await rm(join(disk, "ballast"), { force: true });
  const script = `f=$(stat -f -c %f .); head -c $(((f - ${pages}) * ${pageBytes})) /dev/zero > ballast`;
  await runCommand("sh", ["-c", script], { cwd: disk });
}

async function makeRoom(): Promise<void> {
  await rm(join(disk, "ballast"));
}

async function open(where = join(disk, "state"), options: Partial<StateOptions> = {}): Promise<State> {
  return await openState({ directory: where, clock: new ManualClock(), spareHalfBytes, ...options });
}

function containerOf(id: string, path: string): ContainerRecord {
  return create(ContainerRecordSchema, { id, name: id, path });
}

/** Replaces a container and tells it; `path` is in both. */
async function change(of: State, id: string, path: string): Promise<void> {
  await of.commit((each) => {
    each.containers.put(containerOf(id, path));
    each.event({ type: "container", action: "update", actorId: id, attributes: { path } });
  });
}

/** Finds a container in a state: its record, and its last event, each by its path. */
function seenOf(of: State, id: string): { record: string | undefined; event: string | undefined } {
  const last = of.events.past().findLast((event) => event.actorId === id);
  return { record: of.containers.get(id)?.path, event: last?.attributes["path"] };
}

beforeEach(async () => {
  directory = scratchDirectory();
  disk = join(directory, "disk");
  await mkdir(disk);
  await must("mount", "-t", "tmpfs", "-o", `size=${sizeKib}k`, "tmpfs", disk);
});
afterEach(async () => {
  await remount("rw");
  await state?.close();
  state = undefined;
  await must("umount", disk);
});

/** Checks the state that a `kill -9` at this moment leaves, opened where there is room. */
async function asKilled(check: (state: State) => void): Promise<void> {
  const copy = join(directory, "copy");
  await cp(join(disk, "state"), copy, { recursive: true });
  const killed = await open(copy);
  try {
    check(killed);
  } finally {
    await killed.close();
    await rm(copy, { recursive: true });
  }
}

describe("a state whose disk is full", () => {
  it("has what was answered, wherever in a commit the disk ended", async () => {
    let spared = 0;
    for (let pad = 0; pad < pageBytes; pad += padStep) {
      state = await open();
      await change(state, "a", `before ${"x".repeat(pad)}`);
      await leave(0);
      // Longer than what is left of the page that the log ends in, at one of them.
      for (let n = 0; n < 6; n++) {
        await change(state, "a", `${n} ${"y".repeat(900)}`);
        const seen = seenOf(state, "a");
        assert.equal(seen.record, seen.event);
        await asKilled((killed) => assert.deepEqual(seenOf(killed, "a"), seen, `pad ${pad}, change ${n}`));
      }
      const refused = await change(state, "b", "new").then(
        () => undefined,
        (error: unknown) => messageOf(error),
      );
      assert.equal(refused, `write ${join(disk, "state")}: no space left on device`);
      assert.deepEqual(seenOf(state, "b"), { record: undefined, event: undefined });
      await asKilled((killed) => {
        assert.deepEqual(seenOf(killed, "b"), { record: undefined, event: undefined });
        spared += 1;
      });
      await state.close();
      // The same on the disk that is still full, and on one that has little room.
      for (const pages of [0, 1, 2, 5]) {
        await leave(pages);
        state = await open();
        assert.match(seenOf(state, "a").record ?? "", /^5 /);
        assert.equal(seenOf(state, "b").record, undefined);
        await change(state, "a", `5 after ${pages}`);
        await state.close();
      }
      await makeRoom();
      state = await open();
      await change(state, "c", "there is room");
      assert.deepEqual(seenOf(state, "a"), { record: "5 after 5", event: "5 after 5" });
      await state.commit((each) => each.containers.delete("c"));
      await state.close();
      await rm(join(disk, "state"), { recursive: true });
      state = undefined;
    }
    assert.ok(spared > 0);
  });

  it("is made, or is not and says why, wherever the disk ends; and then with room it is", async () => {
    for (let pages = 0; pages < 24; pages++) {
      await leave(pages);
      try {
        state = await open();
      } catch (error) {
        assert.match(messageOf(error), /no space left on device/i, `${pages} pages`);
      }
      await state?.close();
      await makeRoom();
      state = await open();
      await change(state, "a", "made");
      await state.close();
      state = undefined;
      await rm(join(disk, "state"), { recursive: true });
    }
  });

  it("takes new things again once there is room, without being opened again", async () => {
    state = await open();
    await change(state, "a", "before");
    await leave(0);
    for (let n = 0; n < 10; n++) {
      await change(state, "a", `${n} ${"y".repeat(900)}`);
    }
    await assert.rejects(change(state, "b", "new"), /no space left/);
    await makeRoom();
    await change(state, "b", "new");
    await state.close();
    state = await open();
    assert.deepEqual(seenOf(state, "b"), { record: "new", event: "new" });
    assert.match(seenOf(state, "a").record ?? "", /^9 /);
  });

  it("keeps more changes than the spare is long, and the lock", inSoak, async () => {
    state = await open();
    await change(state, "a", "before");
    await leave(0);
    for (let n = 0; n < 400; n++) {
      await state.commit((each) => each.containers.put(containerOf("a", `${n} ${"y".repeat(900)}`)));
    }
    await assert.rejects(
      runCommand(process.execPath, [
        "-e",
        `import(${JSON.stringify(new URL("../../src/backends/state/state.js", import.meta.url).href)})
           .then(({ openState }) => openState({ directory: ${JSON.stringify(join(disk, "state"))}, clock: undefined }))
           .then(() => process.exit(0), (error) => { console.error(error.message); process.exit(3); });`,
      ]).then(({ code, errorText }) => {
        if (code !== 0) {
          throw new Error(errorText);
        }
      }),
      /in use by another/,
    );
    await asKilled((killed) => assert.match(killed.containers.get("a")?.path ?? "", /^399 /));
  });

  it("has what ended and was removed, however much events tell", async () => {
    state = await open();
    for (const id of ["ends", "removed"]) {
      await change(state, id, "before");
    }
    await leave(0);
    const heard: string[] = [];
    state.events.listen(({ action }) => heard.push(action));
    const attributes = { label: "x".repeat(10_000) };
    for (let n = 0; n < 100; n++) {
      await state.commit((each) =>
        each.event({ type: "container", action: "attach", actorId: "ends", attributes }),
      );
    }
    await state.commit((each) => {
      each.containers.put(containerOf("ends", "ended"));
      each.event({ type: "container", action: "die", actorId: "ends", attributes });
    }, "happened");
    await state.commit((each) => {
      each.containers.delete("removed");
      each.event({ type: "container", action: "destroy", actorId: "removed", attributes });
    });
    assert.deepEqual([heard.length, ...heard.slice(-2)], [102, "die", "destroy"]);
    assert.equal(state.events.past().length, 104);
    await asKilled((killed) => {
      assert.equal(killed.containers.get("ends")?.path, "ended");
      assert.equal(killed.containers.has("removed"), false);
    });
  });

  it("has room for what ends after many events that it forgot and many creations that it refused", async () => {
    state = await open(undefined, { journalLimit: 64 });
    await change(state, "a", "before");
    await leave(0);
    for (let n = 0; n < 10; n++) {
      await change(state, "a", `${n} ${"y".repeat(900)}`);
    }
    for (let n = 0; n < 3_000; n++) {
      await state.commit((each) => each.event({ type: "image", action: "tag", actorId: "i" }));
      await assert.rejects(change(state, `new ${n}`, "new"), /no space left/);
    }
    const longest = "y".repeat(spareHalfBytes / 2);
    await state.commit((each) => each.containers.put(containerOf("a", longest)));
    await asKilled((killed) => assert.equal(killed.containers.get("a")?.path, longest));
    await makeRoom();
    await change(state, "b", "new");
    await state.close();
    state = await open();
    assert.deepEqual(seenOf(state, "b"), { record: "new", event: "new" });
  });

  it("goes on where inodes are used up", async () => {
    await must("umount", disk);
    await must("mount", "-t", "tmpfs", "-o", `size=${32 * sizeKib}k,nr_inodes=64`, "tmpfs", disk);
    state = await open();
    await change(state, "a", "before");
    await runCommand("sh", ["-c", "n=0; while : > inode$n; do n=$((n + 1)); done"], { cwd: disk });
    // More than LevelDB has in one log: it needs another file.
    for (let n = 0; n < 240; n++) {
      await state.commit((each) => each.containers.put(containerOf("a", `${n} ${"y".repeat(30_000)}`)));
    }
    await state.close();
    state = await open();
    assert.equal(state.containers.get("a")?.path.slice(0, 4), "239 ");
    for (const name of (await readdir(disk)).filter((each) => each.startsWith("inode"))) {
      await rm(join(disk, name));
    }
    await change(state, "b", "new");
  });

  it("refuses in clear words on a read-only file system, keeps what has happened, and goes on once it can be written", async () => {
    state = await open();
    await change(state, "a", "before");
    await state.close();
    await remount("ro");
    state = await open();
    assert.deepEqual(seenOf(state, "a"), { record: "before", event: "before" });
    await assert.rejects(change(state, "b", "new"), /read-only file system/);
    await assert.rejects(change(state, "a", "changed"), /read-only file system/);
    assert.deepEqual(seenOf(state, "a"), { record: "before", event: "before" });
    await state.commit((each) => each.containers.put(containerOf("a", "ended")), "happened");
    assert.equal(state.containers.get("a")?.path, "ended");
    await remount("rw");
    await change(state, "b", "new");
    await state.close();
    state = await open();
    assert.equal(state.containers.get("a")?.path, "ended");
    assert.equal(state.containers.get("b")?.path, "new");
  });
});
