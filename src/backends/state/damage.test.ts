import assert from "node:assert/strict";
import { cp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, it, mock } from "node:test";

import { create } from "@bufbuild/protobuf";
import { pino } from "pino";

import { Random } from "../../../test/support/random.ts";
import { errnoOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { lossIn } from "./damage.ts";
import { openState, type State } from "./state.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const records = 400;

describe("a database whose log is not whole", () => {
  let directory: string;
  let log: string;
  let whole: Buffer;
  const states: State[] = [];

  const open = async (logger?: Logger): Promise<State> => {
    const options = { directory, clock: new ManualClock() };
    const state = await openState(logger === undefined ? options : { ...options, logger });
    states.push(state);
    return state;
  };
  const reopen = async (): Promise<State> => {
    await states.pop()?.close();
    return await open();
  };
  const copies = (): Promise<string[]> => readdir(path.join(directory, "set-aside")).catch(() => []);

  beforeEach(async () => {
    directory = scratchDirectory();
    const state = await open();
    for (let n = 0; n < records; n++) {
      const id = n.toString(16).padStart(64, "0");
      await state.commit((change) => {
        change.containers.put(create(ContainerRecordSchema, { id, name: `c${n}`, path: "p".repeat(300) }));
      });
    }
    await states.pop()?.close();
    const name = (await readdir(path.join(directory, "db"))).find((each) => each.endsWith(".log"));
    log = path.join(directory, "db", name ?? assert.fail("no log"));
    whole = await readFile(log);
    assert.ok(whole.length > 3 * 32 * 1024);
  });
  afterEach(() => states.pop()?.close());

  it("is trusted if nothing is lost", async () => {
    assert.equal(lossIn(whole), undefined);
    const state = await open();
    assert.deepEqual([state.losses, state.containers.size, await copies()], [[], records, []]);
  });

  it("is torn at each byte of its last record, and by the zeros that a crash of the machine leaves", () => {
    const begins: number[] = [];
    for (let end = whole.length - 1; end > whole.length - 300; end--) {
      const cut = lossIn(whole.subarray(0, end));
      assert.equal(cut?.kind, "torn", `cut at ${end}`);
      begins.push(cut.offset);
      const zeroed = Buffer.from(whole).fill(0, end);
      assert.equal(lossIn(zeroed)?.kind, "torn", `zeros from ${end}`);
    }
    assert.equal(new Set(begins).size, 1);
  });

  it("is damaged by a flipped byte anywhere before, and by bytes that are missing", () => {
    const random = new Random("a flipped byte");
    for (let n = 0; n < 500; n++) {
      const at = random.below(whole.length - 2 * 32 * 1024);
      const flipped = Buffer.from(whole);
      flipped.writeUInt8(flipped.readUInt8(at) ^ (1 + random.below(255)), at);
      const loss = lossIn(flipped);
      assert.equal(loss?.kind, "damaged", `byte ${at}`);
      assert.ok(loss.offset <= at && at - loss.offset < 32 * 1024, `byte ${at} is told as ${loss.offset}`);
    }
    assert.equal(lossIn(Buffer.concat([whole.subarray(0, 40_000), whole.subarray(50_000)]))?.kind, "damaged");
  });

  it("is damaged if its last record's length exceeds the block", () => {
    const { offset } = lossIn(whole.subarray(0, whole.length - 1)) ?? assert.fail("it is not torn");
    const wrong = Buffer.from(whole);
    wrong.writeUInt16LE(0xffff, offset + 4);
    assert.deepEqual(lossIn(wrong), { kind: "damaged", offset });
    assert.deepEqual(lossIn(Buffer.concat([wrong, Buffer.alloc(10)])), { kind: "damaged", offset });
  });

  it("is left alone if it is damaged and cannot be copied, and read if only its end is torn", async () => {
    const flipped = Buffer.from(whole);
    flipped.writeUInt8(flipped.readUInt8(1000) ^ 1, 1000);
    await writeFile(log, flipped);
    await symlink(path.join(directory, "nowhere", "at all"), path.join(directory, "set-aside"));
    await assert.rejects(open(), (error: Error) => {
      assert.match(
        error.message,
        /is damaged: \d+\.log; no copy: ENOTDIR.*; it is left as it is: `sockerless check --repair --state-dir .+` mends what can be mended$/,
      );
      assert.equal(errnoOf(error.cause), "ENOTDIR");
      return true;
    });
    assert.deepEqual(await readFile(log), flipped);
    await writeFile(log, whole.subarray(0, whole.length - 20));
    const logger = pino({ level: "silent" });
    const told = mock.method(logger, "error");
    assert.equal((await open(logger)).containers.size, records - 1);
    assert.match(
      String(told.mock.calls[0]?.arguments[1]),
      /ends in half a record, of which there is no copy: ENOTDIR/,
    );
  });

  it("is copied before damaged data is dropped, and the state reports it until a user discards the copy", async () => {
    const random = new Random("flipped bytes");
    const flipped = Buffer.from(whole);
    for (let n = 0; n < whole.length / 1000; n++) {
      flipped.writeUInt8(random.below(256), random.below(whole.length));
    }
    await writeFile(log, flipped);
    const state = await open();
    assert.ok(state.containers.size < records);
    assert.match(state.losses.join(), /^db\/\d+\.log is damaged at byte \d+$/);
    const [copy = assert.fail("no copy"), ...others] = await copies();
    assert.deepEqual(others, []);
    const kept = path.join(directory, "set-aside", copy, "db", path.basename(log));
    assert.deepEqual(await readFile(kept), flipped);

    const next = await reopen(); // LevelDB has made it whole.
    assert.match(next.losses.join(), /is damaged at byte/);
    assert.equal((await copies()).length, 1);
    await next.forgetLosses();
    assert.deepEqual([next.losses, await copies()], [[], []]);
    assert.deepEqual((await reopen()).losses, []);
  });

  it("keeps all intact records if its end is torn, and reports it", async () => {
    await writeFile(log, whole.subarray(0, whole.length - 20));
    const state = await open();
    assert.equal(state.containers.size, records - 1);
    assert.match(state.losses.join(), /^db\/\d+\.log ends in half a record$/);
  });

  it("has all its records again once the whole database is put back", async () => {
    const backup = path.join(directory, "backup");
    await cp(path.join(directory, "db"), backup, { recursive: true });
    await writeFile(log, whole.subarray(0, whole.length / 2));
    const state = await open();
    assert.ok(state.containers.size < records);
    await states.pop()?.close();
    await rm(path.join(directory, "db"), { recursive: true });
    await cp(backup, path.join(directory, "db"), { recursive: true });
    assert.equal((await open()).containers.size, records);
  });
});
