import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { streamOf } from "../../../test/support/image-store.ts";
import { blobOf } from "../../../test/support/images.ts";
import { decompressed, measureLayer, inflatedAtOnce } from "./layer-content.ts";

const content = Buffer.from("a layer's tar ".repeat(10_000));

function measure(bytes: Buffer, signal = new AbortController().signal) {
  const { digest } = blobOf(bytes);
  return measureLayer({ digest, size: bytes.length }, streamOf(bytes, 777), signal);
}

describe("a layer", () => {
  const { digest: diffId } = blobOf(content);

  for (const [kind, bytes] of [
    ["plain", content],
    ["gzip", gzipSync(content)],
    ["zstd", zstdCompressSync(content)],
  ] as const) {
    it(`that is ${kind} has the diff ID of its content`, async () => {
      const compression = kind === "plain" ? undefined : kind;
      assert.deepEqual(await measure(bytes), { diffId, size: content.length, compression });
    });
  }

  it("is inflated beside few others, for whose threads all else waits, and ends while it waits", async () => {
    const bytes = gzipSync(content);
    let [now, most, unread] = [0, 0, 0];
    async function* source(): AsyncGenerator<Uint8Array> {
      unread += 1;
      try {
        yield bytes.subarray(0, 100);
        now += 1;
        most = Math.max(most, now);
        await new Promise((resolve) => setTimeout(resolve, 10));
        yield bytes.subarray(100);
        now -= 1;
      } finally {
        unread -= 1;
      }
    }
    const { digest } = blobOf(bytes);
    const left = new AbortController();
    const measured = Array.from({ length: 20 }, (_, at) =>
      measureLayer(
        { digest, size: bytes.length },
        source(),
        at < 15 ? new AbortController().signal : left.signal,
      ),
    );
    const leaving = assert.rejects(Promise.all(measured.slice(15)), { message: "left" });
    await new Promise((resolve) => setTimeout(resolve, 5));
    left.abort(new Error("left"));
    await leaving;
    for (const { diffId: found } of await Promise.all(measured.slice(0, 15))) {
      assert.equal(found, diffId);
    }
    await Promise.allSettled(measured);
    assert.deepEqual([most, unread], [inflatedAtOnce, 0]);
  });

  it("may be several gzip or zstd streams in a row", async () => {
    const [one, two] = [content.subarray(0, 70_000), content.subarray(70_000)];
    for (const compress of [gzipSync, zstdCompressSync]) {
      assert.equal(
        (await measure(Buffer.concat([compress(one), compress(two)]))).diffId,
        diffId,
        compress.name,
      );
    }
  });

  it("may be empty", async () => {
    assert.equal((await measure(Buffer.alloc(0))).size, 0);
  });

  for (const [kind, bytes, message] of [
    ["cut gzip", gzipSync(content).subarray(0, 100), "unexpected EOF"],
    ["cut zstd", zstdCompressSync(content).subarray(0, 30), "unexpected EOF"],
    ["garbled gzip", garbled(gzipSync(content)), /^gzip: /],
    ["garbled zstd", garbled(zstdCompressSync(content)), /^zstd: |^unexpected EOF$/],
    ["bzip2", Buffer.from("BZh91AY&SY"), /compressed with bzip2 are not supported/],
  ] as const) {
    it(`that is ${kind} is refused`, async () => {
      await assert.rejects(measure(bytes), { kind: "invalid", message });
    });
  }

  it("fails with its source's own error", async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield gzipSync(content).subarray(0, 50);
      throw new Error("the disk is gone");
    }
    const { signal } = new AbortController();
    await assert.rejects(measureLayer({ digest: diffId, size: 0 }, broken(), signal), {
      message: "the disk is gone",
    });
  });

  it("is read no further once nobody wants it, though it still unpacks", async () => {
    const unwanted = new AbortController();
    const source = gzipSync(Buffer.alloc(64 * 1024 ** 2));
    const measured = measure(source, unwanted.signal);
    unwanted.abort(new Error("the client has left"));
    await assert.rejects(measured, { message: "the client has left" });
  });
});

/** A frame of zstd that demands a window of this logarithm, and has so many blocks of 128 KiB of zeros. */
function frame(windowLog: number, blocks = 1): Buffer {
  const all = Array.from({ length: blocks }, (_, n) => [n + 1 === blocks ? 3 : 2, 0, 16, 0]);
  return Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3, ...all.flat()]);
}

/** A frame of zstd whose window is as large as the content that it announces. */
function wholeFrame(size: number): Buffer {
  const announced = Buffer.alloc(4);
  announced.writeUInt32LE(size);
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0]), announced, Buffer.from([3, 0, 16, 0])]);
}

describe("a window of zstd", () => {
  for (const [of, bytes] of [
    ["8 MiB", frame(23)],
    ["128 MiB", frame(27)],
    ["16 MiB behind a small one", Buffer.concat([frame(20), frame(24)])],
  ] as const) {
    it(`may be of ${of}`, async () => {
      assert.ok((await measure(bytes)).size > 0);
    });
  }

  for (const [of, bytes] of [
    ["256 MiB", frame(28)],
    ["2 TiB", frame(41)],
    ["256 MiB for a whole content", wholeFrame(256 * 1024 ** 2)],
    ["128 MiB behind a small one", Buffer.concat([frame(20), frame(27)])],
  ] as const) {
    it(`may not be of ${of}`, async () => {
      await assert.rejects(measure(bytes), { kind: "invalid", message: /^zstd: / });
    });
  }

  for (const [of, bytes, most] of [
    ["128 MiB", frame(27, 20), 8],
    ["8 MiB", frame(23, 20), 32],
  ] as const) {
    it(`shares its room with others of ${of}`, async () => {
      const held: AsyncIterator<Uint8Array>[] = [];
      const begin = async (): Promise<void> => {
        const iterator = (await decompressed(streamOf(bytes, 777))).content[Symbol.asyncIterator]();
        await iterator.next();
        held.push(iterator);
      };
      for (let n = 0; n < most; n++) {
        await begin();
      }
      await assert.rejects(begin(), { kind: "unavailable" });
      await held.pop()?.return?.();
      await begin();
      await Promise.all(held.map((each) => each.return?.()));
    });
  }
});

function garbled(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.fill(0xa5, 12, 40);
  return copy;
}
