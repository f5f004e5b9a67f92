import assert from "node:assert/strict";
import { it } from "node:test";

import { KeptBytes } from "./kept-bytes.ts";

const kib = 1024;
const mib = 1024 * kib;

/** Bytes that tell their place. */
function bytesAt(offset: number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => ((offset + index) * 7) % 251));
}

/** All parts that are to be sent. */
function unsent(kept: KeptBytes): Buffer[] {
  const parts: Buffer[] = [];
  for (let part = kept.next(); part !== undefined; part = kept.next()) {
    parts.push(part);
  }
  return parts;
}

it("gives each byte once, and those not dropped again after a rewind, whatever the sizes", () => {
  const kept = new KeptBytes("agent", () => assert.fail("it gives way"));
  const sizes = [1, 45, 3 * kib, 16 * kib, 7, 20 * kib, 0, 5 * kib, 16 * kib - 1, 300];
  let [added, sent, dropped] = [0, 0, 0];
  for (let round = 0; round < 400; round++) {
    const size = sizes[(round * 3) % sizes.length] ?? 0;
    kept.add(bytesAt(added, size));
    added += size;
    for (let some = 0; some < round % 4; some++) {
      const part = kept.next() ?? Buffer.alloc(0);
      assert.ok(part.equals(bytesAt(sent, part.length)));
      sent += part.length;
    }
    if (round % 5 === 0) {
      const gone = Math.floor(((sent - dropped) * (round % 3)) / 2);
      kept.drop(gone);
      dropped += gone;
    }
    if (round % 37 === 0) {
      kept.rewind();
      sent = dropped;
    }
    assert.equal(kept.length, added - dropped);
  }
  kept.rewind();
  assert.ok(Buffer.concat(unsent(kept)).equals(bytesAt(dropped, added - dropped)));
  kept.clear();
});

it("packs small writes, also those that were sent one by one", () => {
  const kept = new KeptBytes("agent", () => assert.fail("it gives way"));
  for (let write = 0; write < 40_000; write++) {
    kept.add(Buffer.alloc(45));
    assert.equal(Buffer.concat(unsent(kept)).length, 45);
  }
  kept.rewind();
  assert.ok(unsent(kept).length < 200);
  kept.clear();
});

it("lets one link keep 2 MiB, and each of many 256 KiB, after which agents acknowledge", () => {
  const all: KeptBytes[] = [];
  const filled = (): number => {
    const kept = new KeptBytes(String(all.length), () => assert.fail("it gives way"));
    all.push(kept);
    while (kept.hasRoom) {
      kept.add(Buffer.alloc(16 * kib));
    }
    return kept.length;
  };
  const lengths = Array.from({ length: 150 }, filled);
  assert.equal(lengths[0], 2 * mib + 16 * kib);
  assert.equal(lengths.at(-1), 256 * kib + 16 * kib);
  for (const kept of all) {
    kept.clear();
  }
  assert.equal(filled(), 2 * mib + 16 * kib);
  all.at(-1)?.clear();
});
