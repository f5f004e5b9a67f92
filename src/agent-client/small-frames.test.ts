import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";

import { SmallFrames } from "./small-frames.ts";

/** A stream that is read, whose source gives a chunk each time that it is asked, and how many chunks came. */
function readFrom(frames: SmallFrames, bytes: number, most: number): () => number {
  let given = 0;
  const stream = new Readable({
    read() {
      void setImmediate().then(() => stream.push(given++ < most ? Buffer.alloc(bytes) : null));
    },
  });
  frames.watch(stream);
  stream.resume();
  return () => given;
}

test("small frames come as fast as the allowance grows back, from all streams of a session together", async () => {
  const frames = new SmallFrames();
  const flood = new Readable({ read: () => {} });
  frames.watch(flood);
  for (let count = 0; count < 40_000; count++) {
    flood.push(Buffer.alloc(1));
  }
  const given = readFrom(frames, 1, 1);
  for (let turn = 0; turn < 10; turn++) {
    await setImmediate();
  }
  assert.equal(given(), 0);
  while (given() === 0) {
    await sleep(10);
  }
});

test("frames that are not small, and few small ones, are asked for at once", async () => {
  const frames = new SmallFrames();
  const given = readFrom(frames, 256, 3_000);
  while (given() < 3_000) {
    await sleep(1);
  }
  assert.ok(!frames.areTooMany);
  const small = readFrom(frames, 1, 900);
  while (small() < 900) {
    assert.ok(!frames.areTooMany);
    await sleep(1);
  }
});

test("what comes unasked is passed on at once, and the end, too", async () => {
  const frames = new SmallFrames();
  const stream = new Readable({ read: () => {} });
  frames.watch(stream);
  let heard = 0;
  stream.on("data", (chunk: Buffer) => {
    heard += chunk.length;
  });
  await sleep(1);
  for (let count = 0; count < 50_000; count++) {
    stream.push(Buffer.alloc(1));
  }
  stream.push(null);
  await new Promise((resolve) => stream.once("end", resolve));
  assert.equal(heard, 50_000);
  assert.ok(frames.areTooMany);
});
