import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { bench, withMemory } from "./testing/spares-bench.ts";

/** Shapes that come in turn, the runs that each has in a turn, and of all runs those that have a spare. */
const inTurn = [
  { shapes: 5, runs: 1, used: 72, without: 72 },
  { shapes: 5, runs: 2, used: 152, without: 152 },
  { shapes: 5, runs: 3, used: 233, without: 232 },
  { shapes: 6, runs: 1, used: 72, without: 72 },
  { shapes: 6, runs: 2, used: 152, without: 152 },
  { shapes: 6, runs: 3, used: 234, without: 232 },
  { shapes: 8, runs: 1, used: 72, without: 72 },
  { shapes: 8, runs: 2, used: 152, without: 152 },
  { shapes: 8, runs: 3, used: 236, without: 232 },
] as const;

describe("a spare container that others want the place of", () => {
  it("is one of four at most, of which the one that has waited longest gives way to one of another shape", async () => {
    const { asked, ended, full, ids, made, run, twice } = bench();
    await full();
    assert.deepEqual(ended, []);
    await run(withMemory(5));
    assert.deepEqual([asked.length, ended], [4, []], "it was the first of its shape");
    await run(withMemory(5));
    assert.deepEqual([asked.length, ended], [5, ids().slice(0, 1)]);
    assert.equal(made(withMemory(1)).taken, undefined, "it is nobody's any more");
    await twice(withMemory(6));
    assert.deepEqual([asked.length, ended], [6, ids().slice(0, 2)]);
    assert.equal(await run(withMemory(5)), ids()[4]);
    assert.deepEqual([asked.length, ended.length], [7, 2], "one in the place of that which was taken");
  });

  it("gives way once the other one waits, unless a container takes one of them before", async () => {
    for (const taken of [undefined, 1, 5]) {
      const { asked, clock, ended, full, host, ids, made, twice } = bench();
      await full();
      const preparing = Promise.withResolvers<void>();
      host.answer = () => preparing.promise;
      await twice(withMemory(5));
      assert.deepEqual([asked.length, ended], [5, []]);
      if (taken !== undefined) {
        assert.equal(made(withMemory(taken)).taken, ids()[taken - 1]);
      }
      preparing.resolve();
      await clock.advance(0);
      assert.deepEqual(ended, taken === undefined ? ids().slice(0, 1) : [], `${taken}`);
    }
  });

  it("does not give way to one that cannot be prepared", async () => {
    const { asked, ended, full, host, ids, made, twice } = bench();
    await full();
    host.answer = () => Promise.reject(new ConnectError("it cannot", Code.FailedPrecondition));
    await twice(withMemory(5));
    assert.deepEqual([asked.length, ended], [5, []]);
    assert.equal(made(withMemory(1)).taken, ids()[0]);
  });

  it("gives way to none that comes no sooner than others of its shape: each of five in turn", async () => {
    const { asked, clock, ended, ids, run } = bench();
    for (let turn = 0; turn < 5; turn++) {
      for (const memory of [1, 2, 3, 4, 5]) {
        const taken = await run(withMemory(memory));
        assert.equal(taken !== undefined, turn >= 2 && memory < 5, `${memory} in turn ${turn}`);
        await clock.advance(1000);
      }
    }
    assert.deepEqual([ended, asked.length], [[], 4 * 4]);
    assert.equal(new Set(ids()).size, 4 * 4);
  });

  it("gives way to the first one of a shape alone, however fast its containers come", async () => {
    const { asked, clock, ended, full, host, launching, run, spares, twice } = bench();
    await full();
    const preparing = Promise.withResolvers<void>();
    host.answer = () => preparing.promise;
    await twice(withMemory(5));
    const { id } = launching(withMemory(5)); // It waits for its spare.
    preparing.resolve();
    await clock.advance(0);
    spares.started(id);
    await clock.advance(0);
    assert.deepEqual([asked.length, ended.length], [6, 1]);
    await run(withMemory(5));
    assert.deepEqual([asked.length, ended.length], [7, 1], "one when it was made, and none when it started");
  });

  it("that cannot be ended has given way all the same, and those that end wait for it", async () => {
    const { asked, clock, ended, full, host, made, spares, twice } = bench();
    await full();
    const ending = Promise.withResolvers<void>();
    host.end = () => ending.promise;
    await twice(withMemory(5));
    assert.deepEqual([asked.length, ended.length, made(withMemory(1)).taken], [5, 1, undefined]);
    let isClosed = false;
    const closed = spares.close().then(() => (isClosed = true));
    await clock.advance(0);
    assert.equal(isClosed, false);
    ending.reject(new Error("it cannot"));
    await closed;
  });

  for (const { shapes, runs, used, without } of inTurn) {
    it(`is of no less use than if it kept its place: ${runs} of each of ${shapes} in turns`, async () => {
      const { clock, ended, run } = bench();
      let taken = 0;
      for (let turn = 0; turn < 20; turn++) {
        for (let at = 0; at < shapes * runs; at++) {
          const isTaken = (await run(withMemory(1 + Math.floor(at / runs)))) !== undefined;
          taken += Number(isTaken);
          await clock.advance(500);
        }
      }
      assert.equal(taken, used);
      assert.ok(taken >= without);
      assert.equal(ended.length, runs === 1 ? 0 : shapes - 4);
    });
  }

  it("gives way again once half a minute has passed in which none was to", async () => {
    const { clock, ended, run, twice } = bench();
    const fill = async () => {
      for (const memory of [1, 2, 3, 4]) {
        await twice(withMemory(memory));
      }
    };
    await fill();
    await twice(withMemory(5));
    assert.equal(ended.length, 1);
    await run(withMemory(1));
    await clock.advance(20_000);
    await twice(withMemory(6));
    assert.equal(ended.length, 1, "the one that gave way would have been of use");
    await clock.advance(10_000);
    await fill();
    await twice(withMemory(7));
    assert.equal(ended.length, 1, "ten seconds after others sought a place");
    await clock.advance(30_000);
    await fill();
    await twice(withMemory(8));
    assert.equal(ended.length, 2);
  });

  it("is one of five, with the one that is prepared for its place, and after that with the one that ends", async () => {
    const { asked, clock, ended, full, host, launching, run, spares, twice } = bench();
    await full();
    const [fifth, next, ending] = [0, 1, 2].map(() => Promise.withResolvers<void>());
    assert.ok(fifth && next && ending);
    host.answer = () => fifth.promise;
    await twice(withMemory(5));
    const hurried = launching(withMemory(5));
    const other = launching(withMemory(6));
    fifth.resolve();
    await clock.advance(0);
    spares.started(hurried.id);
    spares.over(other.id);
    host.answer = () => next.promise;
    host.end = () => ending.promise;
    await twice(withMemory(7));
    assert.deepEqual([hurried.taken, asked.length, ended.length], [asked[4]?.record.id, 6, 0]);
    await run(withMemory(5));
    assert.equal(asked.length, 6, "one is being prepared for a place");
    next.resolve();
    await clock.advance(0);
    await run(withMemory(5));
    assert.deepEqual([asked.length, ended.length], [6, 1], "one is ending");
    ending.resolve();
    await clock.advance(0);
    await run(withMemory(5));
    assert.deepEqual([asked.length, ended.length], [7, 2]);
  });
});
