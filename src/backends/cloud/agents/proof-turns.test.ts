import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";

import { ProofTurns } from "./proof-turns.ts";

/** Turns, the names of what has begun, and a way to begin. */
function scene() {
  const turns = new ProofTurns();
  const left = new AbortController();
  const begun: string[] = [];
  const begin = async (name: string, containerId = "flooded") => {
    const proof = await turns.begin(containerId, left.signal);
    if (proof !== undefined) {
      begun.push(name);
    }
    return proof;
  };
  return { turns, left, begun, begin };
}

test("proofs begin some at once and then one by one, the last that came first", async () => {
  const { begun, begin } = scene();
  const proofs = Array.from({ length: 400 }, (_, n) => begin(`${n}`));
  await setTimeout(0);
  const atOnce = begun.length;
  assert.ok(atOnce <= 60, `${atOnce} at once`);
  assert.equal(await proofs[atOnce], undefined, "the longest waiting of too many");
  await proofs.at(-2);
  assert.deepEqual(begun.slice(atOnce, atOnce + 2), ["399", "398"]);
  assert.ok(begun.length < atOnce + 60, `${begun.length} in a moment`);
});

test("another container's proof waits for none of a flood, whoever came last", async () => {
  const { begun, begin } = scene();
  for (let n = 0; n < 100; n += 1) {
    void begin(`${n}`);
  }
  await setTimeout(0);
  const atOnce = begun.length;
  const own = begin("own", "other");
  void begin("later");
  await own;
  assert.equal(begun[atOnce], "own");
});

test("a container's proof comes before those of keys that are gone at once, however many come later", async () => {
  const { turns, begun, begin } = scene();
  const beginShort = async (name: string): Promise<void> => {
    const proof = await begin(name);
    if (proof !== undefined) {
      turns.end(proof);
    }
  };
  for (let n = 0; n < 20; n += 1) {
    void beginShort(`${n}`);
  }
  await setTimeout(0);
  const atOnce = begun.length;
  const own = begin("own", "other");
  for (let n = 20; n < 400; n += 1) {
    void beginShort(`${n}`);
  }
  assert.notEqual(await own, undefined);
  assert.equal(begun[atOnce], "own");
});

test("genuine agents wait for no turns but those of proofs that take their time", async () => {
  const { turns, begun, begin } = scene();
  for (let n = 0; n < 100; n += 1) {
    void begin(`${n}`, `container ${n}`).then((proof) => turns.end(proof ?? assert.fail(), true));
  }
  await setTimeout(0);
  assert.equal(begun.length, 100);
});

test("the proofs of many containers with one each go on", async () => {
  const { begin } = scene();
  const proofs = await Promise.all(Array.from({ length: 66 }, (_, n) => begin(`${n}`, `container ${n}`)));
  assert.ok(proofs.every((proof) => proof?.signal.aborted === false));
});

test("a proof under way gives way to later ones of its container, and an ended one to none", async () => {
  const { turns, begin } = scene();
  const [ended, oldest, other] = [await begin("ended"), await begin("oldest"), await begin("own", "other")];
  turns.end(ended ?? assert.fail());
  for (let later = 0; later < 63; later += 1) {
    await begin(`${later}`);
  }
  const aborted = [ended, oldest, other].map((proof) => proof?.signal.aborted);
  assert.deepEqual(aborted, [false, true, false]);
});

test("whoever leaves waits no more", async () => {
  const { left, begin } = scene();
  const waiting = Array.from({ length: 20 }, (_, n) => begin(`${n}`));
  left.abort(new Error("the start is over"));
  const statuses = (await Promise.allSettled(waiting)).map(({ status }) => status);
  assert.deepEqual(new Set(statuses.slice(16)), new Set(["rejected"]));
});
