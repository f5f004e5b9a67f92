import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { statSync } from "node:fs";
import fs, {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { constants, tmpdir } from "node:os";
import path from "node:path";
import { afterEach, before, beforeEach, describe, it, type TestContext } from "node:test";

import { create } from "@bufbuild/protobuf";

import { Random } from "../../../test/support/random.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { checkDatabase } from "./check.ts";
import { findLosses } from "./damage.ts";
import { openState, type State } from "./state.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const records = 400;
const seed = process.env["SOCKERLESS_SEED"] ?? "1";

/** Content that is not compressed to nothing. */
const contents = Array.from({ length: records }, (_, n) => {
  const random = new Random(`${seed} ${n}`);
  return Array.from({ length: 20 }, () => random.below(2 ** 31).toString(36)).join("");
});

/** Has reads of a file fail where they touch a block, until another file has its name. */
function loseBlock(t: TestContext, file: string, at: number, inode: number): void {
  const lost = Object.assign(new Error("EIO: i/o error"), { errno: -constants.errno.EIO, code: "EIO" });
  const isLost = (name: unknown): boolean =>
    name === file && statSync(file, { throwIfNoEntry: false })?.ino === inode;
  for (const method of ["readFile", "copyFile"] as const) {
    const real = fs[method] as (...args: unknown[]) => Promise<unknown>;
    t.mock.method(fs, method, async (name: unknown, ...rest: unknown[]) => {
      if (isLost(name)) {
        throw lost;
      }
      return await real(name, ...rest);
    });
  }
  const open = fs.open;
  t.mock.method(fs, "open", async (...args: Parameters<typeof open>) => {
    const handle = await open(...args);
    const read = handle.read.bind(handle) as (...args: unknown[]) => Promise<unknown>;
    const reading = async (...[bytes, offset, length, position]: number[]): Promise<unknown> => {
      if (position === at) {
        throw lost;
      }
      return await read(bytes, offset, length, position);
    };
    return isLost(args[0]) ? Object.assign(handle, { read: reading }) : handle;
  });
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
}

describe("a database that LevelDB cannot open, or misreads", () => {
  const whole = scratchDirectory();
  let directory: string;
  let db: string;
  let state: State | undefined;

  const open = async (): Promise<State> => (state = await openState({ directory, clock: new ManualClock() }));
  const close = async (): Promise<void> => {
    await state?.close();
    state = undefined;
  };
  const named = async (pattern: RegExp): Promise<string> => {
    const name = (await readdir(db)).find((each) => pattern.test(each));
    return path.join(db, name ?? assert.fail(`no ${pattern}`));
  };
  /** Opens it, and asserts that it is told and that each record it has is one that was written. */
  const openDamaged = async (losses: RegExp): Promise<State> => {
    const opened = await open();
    assert.match(opened.losses.join(), losses);
    for (const { id, path: content } of opened.containers.values()) {
      assert.equal(content, contents[Number.parseInt(id, 16)]);
    }
    return opened;
  };

  before(async () => {
    directory = whole;
    for (const half of [0, 1]) {
      const opened = await open(); // Opening it makes tables of what its log has.
      for (let n = half; n < records; n += 2) {
        const id = n.toString(16).padStart(64, "0");
        await opened.commit((change) => {
          change.containers.put(
            create(ContainerRecordSchema, { id, name: `c${n}`, path: contents[n] ?? "" }),
          );
        });
      }
      await close();
    }
    await open();
    await close();
  });
  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "state-repair-"));
    db = path.join(directory, "db");
    await cp(whole, directory, { recursive: true });
    assert.deepEqual(await findLosses(db), []);
  });
  afterEach(async () => {
    await close();
    await rm(directory, { recursive: true });
  });

  it("loses no more than the block in which a byte of a table is flipped", async () => {
    const random = new Random(`${seed} tables`);
    for (let n = 0; n < 10; n++) {
      const table = await named(/\.ldb$/);
      const bytes = await readFile(table);
      const at = random.below(bytes.length - 2000); // The index and the footer are behind.
      bytes.writeUInt8(bytes.readUInt8(at) ^ (1 + random.below(255)), at);
      await writeFile(table, bytes);
      const opened = await openDamaged(/^db\/\d+\.ldb is damaged at byte \d+$/);
      assert.ok(opened.containers.size > records - 50, `byte ${at}: ${opened.containers.size}`);
      assert.deepEqual(await findLosses(db), []);
      await close();
      await rm(directory, { recursive: true });
      await cp(whole, directory, { recursive: true });
    }
  });

  it("loses nothing if only what helps to find records in a table is damaged, and is whole after the repair", async () => {
    const table = await named(/\.ldb$/);
    const bytes = await readFile(table);
    const name = bytes.indexOf("filter.leveldb"); // In the index of the filter, behind that.
    assert.ok(name > 0);
    for (const at of [name, name - 20]) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
      await writeFile(table, changed);
      const opened = await openDamaged(/^db\/\d+\.ldb is damaged at byte \d+$/);
      assert.equal(opened.containers.size, records);
      await close();
      assert.deepEqual(await findLosses(db), []);
      await rm(directory, { recursive: true });
      await cp(whole, directory, { recursive: true });
    }
  });

  for (const [name, pattern] of [
    ["a table", /\.ldb$/],
    ["its log", /\.log$/],
    ["its manifest", /^MANIFEST/],
    ["CURRENT", /^CURRENT$/],
  ] as const) {
    it(`is made anew of the rest if the disk has lost ${name}`, async () => {
      const file = await named(pattern);
      await rm(file);
      await symlink("/proc/self/mem", file); // The first page of this process cannot be read: EIO.
      const lost = `db/${path.basename(file)} cannot be read at byte 0`;
      const found = await checkDatabase(directory, false);
      assert.deepEqual(
        found.findings.map(({ what, fault }) => `${what} ${fault}`),
        [lost],
      );
      const opened = await openDamaged(new RegExp(lost));
      assert.ok(opened.containers.size >= (name === "a table" ? records / 2 : records));
      assert.deepEqual(await findLosses(db), []);
    });
  }

  it("keeps what its log has behind a block that the disk has lost", async (t) => {
    const written = await open();
    for (let n = 0; n < records; n++) {
      const id = n.toString(16).padStart(64, "1");
      await written.commit((change) => {
        change.containers.put(create(ContainerRecordSchema, { id, path: contents[n] ?? "" }));
      });
    }
    await close();
    const log = await named(/\.log$/);
    loseBlock(t, log, 36 * 1024, (await stat(log)).ino);
    const opened = await open();
    assert.match(opened.losses.join(), /\d+\.log cannot be read at byte \d+$/);
    const later = [...opened.containers.keys()].filter((id) => id.startsWith("1"));
    assert.ok(later.length < records && opened.containers.size - later.length === records);
    assert.ok(later.length > records - (32 * 1024) / 128, `${later.length} of ${records}`);
    assert.ok(later.includes((records - 1).toString(16).padStart(64, "1")));
  });

  for (const [name, pattern, damage] of [
    ["a table's index is damaged", /\.ldb$/, (bytes: Buffer) => bytes.fill(0x55, bytes.length - 300)],
    [
      "half of a table is cut off",
      /\.ldb$/,
      (bytes: Buffer) => bytes.subarray(0, Math.floor(bytes.length / 2)),
    ],
    ["nothing is left of a table", /\.ldb$/, () => Buffer.alloc(0)],
  ] as const) {
    it(`loses at most a table if ${name}`, async () => {
      const table = await named(pattern);
      const bytes = await readFile(table);
      await writeFile(table, damage(Buffer.from(bytes)));
      const opened = await openDamaged(/is damaged at byte 0$/);
      assert.equal(opened.containers.size, records / 2);
      const [copy = assert.fail("no copy")] = await readdir(path.join(directory, "set-aside"));
      const kept = path.join(directory, "set-aside", copy, "db", path.basename(table));
      assert.deepEqual(await readFile(kept), damage(Buffer.from(bytes)));
    });
  }

  it("works without a missing table, and is complete again once it is put back", async () => {
    const table = await named(/\.ldb$/);
    const backup = path.join(directory, "backup");
    await cp(db, backup, { recursive: true });
    await rm(table);
    const opened = await openDamaged(new RegExp(`^db/${path.basename(table)} is missing$`));
    assert.equal(opened.containers.size, records / 2);
    await close();
    await rm(db, { recursive: true });
    await rename(backup, db);
    assert.equal((await open()).containers.size, records);
  });

  for (const [name, pattern, content, losses] of [
    ["CURRENT is missing", /^CURRENT$/, undefined, /CURRENT is missing/],
    ["CURRENT is empty", /^CURRENT$/, "", /CURRENT is damaged/],
    [
      "CURRENT names a manifest that is not there",
      /^CURRENT$/,
      "MANIFEST-999999\n",
      /MANIFEST-999999 is missing/,
    ],
    ["the manifest is missing", /^MANIFEST/, undefined, /MANIFEST-\d+ is missing/],
    ["the manifest has no beginning", /^MANIFEST/, "x".repeat(300), /MANIFEST is damaged/],
    ["the manifest is damaged", /^MANIFEST/, "x".repeat(40_000), /MANIFEST-\d+ is damaged at byte 0/],
  ] as const) {
    it(`loses nothing if ${name}`, async () => {
      const file = await named(pattern);
      await (content === undefined ? rm(file) : writeFile(file, content));
      const opened = await openDamaged(losses);
      assert.equal(opened.containers.size, records);
      await close();
      const again = await open();
      assert.equal(again.containers.size, records);
      assert.match(again.losses.join(), losses);
      await again.forgetLosses();
      assert.deepEqual(again.losses, []);
    });
  }

  it("tells of a log that is missing, keeps its copy, and has what the tables have", async () => {
    const opened = await open();
    await opened.commit((change) => change.containers.delete("0".repeat(64)));
    await close();
    const log = await named(/\.log$/);
    await rm(log);
    assert.equal((await openDamaged(/\.log is missing$/)).containers.size, records);
    await close();
    assert.match((await open()).losses.join(), /\.log is missing/);
  });

  it("tells of a manifest that is an earlier one, and has what later tables and logs have", async () => {
    const manifest = await named(/^MANIFEST/);
    const earlier = await readFile(manifest);
    const filler = "x".repeat(1_000_000);
    const opened = await open();
    for (let n = 0; n < 6; n++) {
      await opened.commit((change) =>
        change.containers.put(create(ContainerRecordSchema, { id: `${n}`.padStart(64, "f"), path: filler })),
      );
    }
    await close();
    await writeFile(path.join(db, path.basename(manifest)), earlier);
    await writeFile(path.join(db, "CURRENT"), `${path.basename(manifest)}\n`);
    const names = [...(await open()).containers.values()].filter(({ path: content }) => content === filler);
    assert.equal(names.length, 6);
  });

  it("tells of a database that is missing beside content", async () => {
    await mkdir(path.join(directory, "blobs", "sha256"), { recursive: true });
    await rm(db, { recursive: true });
    assert.deepEqual((await open()).losses, []);
    await close();
    await writeFile(path.join(directory, "blobs", "sha256", "a".repeat(64)), "");
    await rm(db, { recursive: true });
    assert.match((await open()).losses.join(), /CURRENT is missing/);
    await close();
    assert.match((await open()).losses.join(), /CURRENT is missing/);
  });

  it("leaves a database alone that another backend has open", async () => {
    const program = `
      import { ClassicLevel } from "classic-level";
      await new ClassicLevel(process.argv[1]).open();
      console.log("open");
      setInterval(() => {}, 60_000);`;
    const other = spawn(process.execPath, ["--input-type=module", "--eval", program, db]);
    try {
      await once(other.stdout, "data");
      await rm(path.join(db, "CURRENT"));
      const options = { directory, clock: new ManualClock(), lockWaitMs: 0 };
      await assert.rejects(openState(options), /is in use by another sockerless backend/);
      assert.deepEqual(await readdir(path.join(directory, "set-aside")), []);
      assert.ok(!(await readdir(db)).includes("CURRENT"));
    } finally {
      other.kill("SIGKILL");
      await once(other, "close");
    }
    assert.equal((await openDamaged(/CURRENT is missing/)).containers.size, records);
  });

  it("drops damaged data in the log as well", async () => {
    const opened = await open();
    for (let n = 0; n < records; n++) {
      await opened.commit((change) => change.containers.delete(n.toString(16).padStart(64, "0")));
    }
    await close();
    const log = await named(/\.log$/);
    const bytes = await readFile(log);
    const middle = Math.floor(bytes.length / 2);
    bytes.fill(0x55, middle, middle + 3);
    await writeFile(log, bytes);
    await rm(await named(/^CURRENT$/));
    const damaged = await openDamaged(
      /\.log is damaged.*CURRENT is missing|CURRENT is missing.*\.log is damaged/,
    );
    assert.ok(damaged.containers.size > 0 && damaged.containers.size < records);
  });
});
