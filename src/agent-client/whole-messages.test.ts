import assert from "node:assert/strict";
import { test } from "node:test";

import { Code } from "@connectrpc/connect";

import { framed } from "./grpc-request.ts";
import { wholeMessages } from "./whole-messages.ts";

const limit = 1000;
const messages = [0, 1, 4, 5, 300, 7].map((length) => framed(new Uint8Array(length).fill(length)));
const all = Buffer.concat(messages);

async function read(bytes: Buffer, pieceLength: number): Promise<Uint8Array[]> {
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += pieceLength) {
      yield bytes.subarray(at, at + pieceLength);
    }
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of wholeMessages(pieces(), limit)) {
    chunks.push(chunk);
  }
  return chunks;
}

test("chunks end where messages end, and nothing is lost", async () => {
  const ends = new Set(messages.map((_, index) => Buffer.concat(messages.slice(0, index + 1)).length));
  for (let pieceLength = 1; pieceLength <= all.length; pieceLength += 1) {
    const chunks = await read(all, pieceLength);
    assert.deepEqual(Buffer.concat(chunks), all);
    let end = 0;
    for (const chunk of chunks) {
      end += chunk.length;
      assert.ok(ends.has(end), `pieces of ${pieceLength}: a chunk ends at ${end}`);
    }
  }
  assert.equal((await read(all, 1)).length, messages.length);
  assert.equal((await read(all, all.length)).length, 1);
});

test("a message cut by the end is an error, and one that is too large is passed on as its prefix", async () => {
  const cut = framed(new Uint8Array(100)).subarray(0, 60);
  const large = framed(new Uint8Array(limit + 1));
  for (const pieceLength of [1, 7, 5000]) {
    await assert.rejects(read(cut, pieceLength), { code: Code.Internal });
    const [first] = await read(large, pieceLength);
    assert.deepEqual(Buffer.from(first ?? []).subarray(0, 5), large.subarray(0, 5));
  }
});

test("a message that is too large is not waited for", async () => {
  let taken = 0;
  async function* endless() {
    for (yield framed(new Uint8Array(2 ** 24)).subarray(0, 100); ; taken += 1) {
      assert.ok(taken < 10, "it is collected");
      yield new Uint8Array(limit);
    }
  }
  const { value } = await wholeMessages(endless(), limit).next();
  assert.equal(value?.length, 5);
});
