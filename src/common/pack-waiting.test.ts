import assert from "node:assert/strict";
import { once } from "node:events";
import { Readable } from "node:stream";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { packWaiting } from "./pack-waiting.ts";

/** Views of this many bytes, as a socket's reads have. */
const readSize = 64 * 1024;

function packed(): Readable {
  const stream = new Readable({ read() {} });
  packWaiting(stream);
  return stream;
}

/** All that waits in a stream, in order. */
function waiting(stream: Readable): Buffer[] {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return chunks;
}

const view = (bytes: number, value: number): Buffer =>
  Buffer.from(new ArrayBuffer(readSize), 0, bytes).fill(value);

test("chunks that wait take little more than their bytes, whatever they were views of", async () => {
  for (const [size, count] of [
    [1, 10_000],
    [100, 600],
    [3_000, 20],
  ] as const) {
    const stream = packed();
    for (let sent = 0; sent < count; sent++) {
      stream.push(view(size, sent % 256));
      if (sent % 100 === 0) {
        await setImmediate();
      }
    }
    const chunks = waiting(stream);
    stream.push(null);
    await once(stream, "end");
    const memory = new Set(chunks.map(({ buffer }) => buffer));
    const taken = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert.ok(taken <= 2 * size * count + 8192, `${taken} bytes for ${size * count}`);
    assert.ok(chunks.length < 150, `${chunks.length} chunks`);
    const expected = Array.from({ length: count }, (_, sent) => Buffer.alloc(size, sent % 256));
    assert.ok(Buffer.concat(chunks).equals(Buffer.concat(expected)));
  }
});

test("a stream of which all was read keeps little", async () => {
  const stream = packed();
  for (let pushed = 0; pushed < 300; pushed++) {
    stream.push(Buffer.alloc(100));
  }
  while (stream.readableLength > 0) {
    stream.read();
  }
  await setImmediate();
  stream.push(Buffer.from("a"));
  const { buffer } = stream.read() as Buffer;
  assert.equal(buffer.byteLength, 4096);
});

test("what waits can be read behind the stream's destruction", () => {
  const stream = packed();
  stream.push(Buffer.from("a"));
  stream.push(Buffer.from("b"));
  stream.destroy();
  assert.equal(String(stream.read()), "ab");
});

test("what was pushed in the tick of the stream's destruction reaches who reads at once", async () => {
  const stream = packed();
  const chunks = waiting(stream);
  await setImmediate();
  stream.push(view(10, 1));
  stream.destroy();
  assert.equal(Buffer.concat(chunks).length, 10);
});

test("chunks that are pushed in one tick are read as few, and all before the end", async () => {
  for (const read of ["flow", "iterate"] as const) {
    const stream = packed();
    const chunks = read === "flow" ? waiting(stream) : [];
    await setImmediate();
    for (let sent = 0; sent < 1000; sent++) {
      stream.push(view(1, 1));
    }
    void setImmediate().then(() => {
      stream.push(view(1, 2));
      stream.push(null);
    });
    if (read === "iterate") {
      for await (const chunk of stream) {
        chunks.push(chunk as Buffer);
      }
    } else {
      await once(stream, "end");
    }
    assert.deepEqual(
      chunks.map(({ length }) => length),
      [1000, 1],
      read,
    );
  }
});

test("large chunks are passed on as they come, behind small ones", async () => {
  const stream = packed();
  const chunks = waiting(stream);
  await setImmediate();
  const large = view(readSize, 2);
  stream.push(view(10, 1));
  stream.push(large);
  assert.deepEqual(
    chunks.map(({ length }) => length),
    [10, readSize],
  );
  assert.equal(chunks[1], large);
});

test("a reader that stops and goes on, in any way, gets all of it", async () => {
  for (const read of ["flow", "iterate", "readable"] as const) {
    const stream = packed();
    let [sent, received] = [0, 0];
    const source = (async () => {
      for (let turn = 0; turn < 200; turn++) {
        for (let each = 0; each < turn % 7; each++) {
          const size = [1, 10, 1_000, 5_000][(turn + each) % 4] ?? 0;
          sent += size;
          stream.push(view(size, 1));
        }
        await setImmediate();
      }
      stream.push(null);
    })();
    if (read === "iterate") {
      for await (const chunk of stream) {
        received += (chunk as Buffer).length;
        await setImmediate();
      }
    } else if (read === "flow") {
      stream.on("data", (chunk: Buffer) => {
        received += chunk.length;
        stream.pause();
        void setImmediate().then(() => stream.resume());
      });
      await once(stream, "end");
    } else {
      stream.on("readable", () => {
        for (
          let chunk = stream.read() as Buffer | null;
          chunk !== null;
          chunk = stream.read() as Buffer | null
        ) {
          received += chunk.length;
        }
      });
      await once(stream, "end");
    }
    await source;
    assert.equal(received, sent, read);
  }
});

test("a waiting stream tells its source when it has enough, and asks for more once it was read", async () => {
  let asked = 0;
  const read = (): void => {
    asked += 1;
  };
  const stream = new Readable({ highWaterMark: 10_000, read });
  packWaiting(stream);
  let isWanted = true;
  let sent = 0;
  for (; isWanted; sent += 100) {
    isWanted = stream.push(view(100, 1));
    await setImmediate();
  }
  assert.equal(sent, 10_000);
  const before = asked;
  stream.resume();
  await setImmediate();
  assert.ok(asked > before);
});
