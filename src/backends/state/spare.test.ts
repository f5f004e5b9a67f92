import assert from "node:assert/strict";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { Operation } from "./database.ts";
import { Spare } from "./spare.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const halfBytes = 1024;

function put(key: string, text: string): Operation {
  return { type: "put", key, value: new TextEncoder().encode(text) };
}

function contentOf(spare: Spare): Record<string, string | undefined> {
  return Object.fromEntries(
    [...spare.content.byKey.values()].map((operation) => [
      operation.key,
      operation.type === "put" ? new TextDecoder().decode(operation.value) : undefined,
    ]),
  );
}

describe("the spare of a state directory", () => {
  let directory: string;
  let file: string;
  let spare: Spare | undefined;

  const reopen = async (taken = 0n): Promise<Spare> => {
    await spare?.close();
    spare = await Spare.open({ stateDirectory: directory, taken, halfBytes });
    return spare;
  };

  beforeEach(async () => {
    directory = scratchDirectory();
    file = path.join(directory, "spare");
  });
  afterEach(async () => {
    await spare?.close();
    spare = undefined;
  });

  it("has all its bytes from the start, and no other file's", async () => {
    await reopen();
    const { size, blocks } = await stat(file);
    assert.equal(size, 2 * halfBytes);
    assert.ok(blocks * 512 >= size, "it is no hole");
    const of = await reopen();
    for (let n = 0; n < 100; n++) {
      await of.add([put("a", `value ${n}`)]);
    }
    assert.equal((await stat(file)).size, 2 * halfBytes);
  });

  it("has the last operation on each key after it was opened again, through every change of halves", async () => {
    let of = await reopen();
    for (let n = 0; n < 150; n++) {
      await of.add([put(`key ${n % 5}`, `value ${n}`), { type: "del", key: `gone ${n % 3}` }]);
      const expected = contentOf(of);
      of = await reopen();
      assert.deepEqual(contentOf(of), expected, `after ${n}`);
      assert.equal(of.sequence, BigInt(n + 1));
    }
    assert.equal(contentOf(of)["key 4"], "value 149");
    assert.equal(contentOf(of)["gone 0"], undefined);
  });

  it("keeps everything before a record that is torn, at any of its bytes", async () => {
    const first = await reopen();
    await first.add([put("a", "first")]);
    const before = await readFile(file);
    await first.add([put("a", "second"), put("b", "second")]);
    const after = await readFile(file);
    await first.close();
    spare = undefined;
    const end = after.findLastIndex((byte, at) => byte !== before[at]) + 1;
    const begin = after.findIndex((byte, at) => byte !== before[at]);
    for (let cut = begin; cut < end; cut++) {
      await writeFile(file, Buffer.concat([after.subarray(0, cut), before.subarray(cut)]));
      assert.deepEqual(contentOf(await reopen()), { a: "first" }, `cut at ${cut}`);
    }
    await (spare as Spare | undefined)?.close();
    spare = undefined;
    await writeFile(file, after);
    assert.deepEqual(contentOf(await reopen()), { a: "second", b: "second" });
  });

  it("drops for good what the database has", async () => {
    const first = await reopen();
    for (let n = 0; n < 40; n++) {
      await first.add([put("a", `value ${n}`)]);
    }
    const taken = first.sequence;
    first.clear();
    assert.deepEqual(contentOf(await reopen(taken)), {});
    const second = await reopen(taken);
    await second.add([put("b", "later")]);
    assert.deepEqual(contentOf(await reopen(taken)), { b: "later" });
  });

  it("refuses operations that do not fit, and keeps its content", async () => {
    const first = await reopen();
    await first.add([put("a", "small")]);
    await assert.rejects(first.add([put("b", "x".repeat(halfBytes))]), /no space left/);
    await first.add([put("c", "small")]);
    assert.deepEqual(contentOf(await reopen()), { a: "small", c: "small" });
  });

  it("refuses what is longer than a half by its length, without reading it", async () => {
    const first = await reopen();
    const unreadable = { length: 2 ** 40 } as unknown as Uint8Array;
    await assert.rejects(first.add([{ type: "put", key: "a", value: unreadable }]), /no space left/);
    await first.add([put("b", "small")]);
    await assert.rejects(first.add([{ type: "put", key: "a", value: unreadable }]), /no space left/);
    assert.deepEqual(contentOf(await reopen()), { b: "small" });
  });

  it("counts the bytes of its keys and values, and those of events among them", async () => {
    const first = await reopen();
    await first.add([put("a", "12345"), put("event!1", "123")]);
    await first.add([put("a", "1"), { type: "del", key: "event!1" }, put("event!2", "12")]);
    for (const spare of [first, await reopen()]) {
      assert.deepEqual([spare.content.bytes, spare.content.eventBytes], [2 + 7 + 9, 7 + 9]);
    }
    (await reopen()).clear();
    assert.deepEqual([spare?.content.bytes, spare?.content.eventBytes], [0, 0]);
  });

  it("is empty if its first record cannot be read", async () => {
    await reopen();
    await spare?.add([put("a", "kept")]);
    await spare?.close();
    spare = undefined;
    const damaged = await open(file, "r+");
    await damaged.write(Buffer.from([0xff]), 0, 1, 8);
    await damaged.close();
    assert.deepEqual(contentOf(await reopen()), {});
  });
});
