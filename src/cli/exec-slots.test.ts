import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { errnoOf } from "../common/errors.ts";
import { CutExecs, ExecSlots, maxExecs, slotBytes } from "./exec-slots.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const fail = (error: unknown): never => assert.fail(String(error));
const id = (n: number): string => n.toString(16).padStart(slotBytes, "0");

/** The slots of a process, and what its supervisor knows once it has died. */
function slots(cutExecs = new CutExecs(fail)) {
  const descriptor = cutExecs.renewSlots() ?? assert.fail("no file can be made");
  const own = new ExecSlots(descriptor, fail);
  const cut = (): readonly string[] => {
    const next = cutExecs.renewSlots() ?? assert.fail("no other file can be made");
    closeSync(next);
    return cutExecs.ids;
  };
  return { own, descriptor, cut };
}

describe("the slots of execs", () => {
  test("have those whose streams have begun and not ended", () => {
    const { own, cut } = slots();
    const streams = [1, 2, 3, 4].map((n) => own.streaming(id(n)));
    streams[0]?.[Symbol.dispose]();
    streams[2]?.[Symbol.dispose]();
    own.streaming(id(5));
    assert.deepEqual(cut().toSorted(), [id(2), id(4), id(5)]);
  });

  test("have an exec until the last of its streams has ended", () => {
    const { own, cut } = slots();
    own.streaming(id(1));
    own.streaming(id(1))?.[Symbol.dispose](); // A second start, which is refused.
    assert.deepEqual(cut(), [id(1)]);
  });

  test("have as many as there are, and again once one is free", () => {
    const { own, cut } = slots();
    const streams = Array.from({ length: maxExecs }, (_, n) => own.streaming(id(n)));
    assert.equal(own.streaming(id(maxExecs)), undefined);
    streams[7]?.[Symbol.dispose]();
    own.streaming(id(maxExecs + 1));
    const known = new Set(cut());
    assert.equal(known.size, maxExecs);
    assert.ok(!known.has(id(7)) && !known.has(id(maxExecs)) && known.has(id(maxExecs + 1)));
  });

  test("ignore a write that was cut by a crash", () => {
    const { own, descriptor, cut } = slots();
    for (const n of [1, 2, 3]) {
      own.streaming(id(n));
    }
    const half = slotBytes / 2;
    writeSync(descriptor, Buffer.alloc(half), 0, half, slotBytes); // The second, emptied.
    writeSync(descriptor, id(4).slice(0, half), 3 * slotBytes);
    assert.deepEqual(cut(), [id(1), id(3)]);
  });

  test("have whole IDs whenever their process is killed", async () => {
    const module = JSON.stringify(new URL("./exec-slots.js", import.meta.url).href);
    const program = `
      const { ExecSlots } = await import(${module});
      const slots = new ExecSlots(3, (error) => { throw error; });
      slots.streaming("f".repeat(64));
      for (let n = 0; ; n++) {
        const first = slots.streaming(String(n % 10).repeat(64));
        const second = slots.streaming(String((n + 5) % 10).repeat(64));
        first[Symbol.dispose]();
        second[Symbol.dispose]();
        if (n === 1000) process.stdout.write("x");
      }`;
    for (let death = 0; death < 5; death += 1) {
      const cutExecs = new CutExecs(fail);
      const descriptor = cutExecs.renewSlots();
      const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
        stdio: ["ignore", "pipe", "inherit", descriptor ?? "ignore"],
      });
      assert.ok(child.stdout !== null);
      await once(child.stdout, "data");
      child.kill("SIGKILL");
      await once(child, "exit");
      closeSync(cutExecs.renewSlots() ?? assert.fail());
      const [first = "", ...others] = cutExecs.ids;
      assert.equal(first, "f".repeat(64));
      assert.ok(others.length <= 2 && others.every((each) => /^(\d)\1{63}$/.test(each)), others.join(" "));
    }
  });

  test("report a failed write once, and streams continue", () => {
    const full = openSync("/dev/full", "w");
    const failures: unknown[] = [];
    const own = new ExecSlots(full, (error) => failures.push(error));
    own.streaming(id(1))?.[Symbol.dispose]();
    own.streaming(id(2));
    assert.equal(failures.length, 1);
    assert.match(String(failures[0]), /ENOSPC/);
    closeSync(full);
  });
});

describe("cut execs", () => {
  test("are known to each process that follows, the latest of them", () => {
    const cutExecs = new CutExecs(fail);
    slots(cutExecs).own.streaming(id(0));
    slots(cutExecs);
    const { own } = slots(cutExecs);
    assert.deepEqual(cutExecs.ids, [id(0)]);
    for (let n = 1; n <= maxExecs; n += 1) {
      own.streaming(id(n));
    }
    closeSync(cutExecs.renewSlots() ?? assert.fail());
    assert.deepEqual(
      [cutExecs.ids.length, cutExecs.ids[0], cutExecs.ids.at(-1)],
      [maxExecs, id(1), id(maxExecs)],
    );
  });

  test("have their file in the first directory that takes it, and leave nothing there", async () => {
    const directory = scratchDirectory();
    const { own, cut } = slots(new CutExecs(fail, [join(directory, "missing"), directory]));
    own.streaming(id(1));
    assert.deepEqual(readdirSync(directory), []);
    assert.deepEqual(cut(), [id(1)]);
  });

  test("report a missing file, and processes start without slots", () => {
    const failures: unknown[] = [];
    const cutExecs = new CutExecs((error) => failures.push(error), ["/missing"]);
    assert.equal(cutExecs.renewSlots(), undefined);
    assert.equal(cutExecs.hasSlots, false);
    assert.deepEqual(failures.map(errnoOf), ["ENOENT"]);
  });
});
