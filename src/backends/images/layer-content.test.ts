import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { streamOf } from "../../../test/support/image-store.ts";
import { blobOf } from "../../../test/support/images.ts";
import { measureLayer } from "./layer-content.ts";

const content = Buffer.from("a layer's tar ".repeat(10_000));

function measure(bytes: Buffer) {
  const { digest } = blobOf(bytes);
  return measureLayer({ digest, size: bytes.length }, streamOf(bytes, 777));
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
    await assert.rejects(measureLayer({ digest: diffId, size: 0 }, broken()), {
      message: "the disk is gone",
    });
  });
});

function garbled(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.fill(0xa5, 12, 40);
  return copy;
}
