import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";

import { runCommand } from "../../../test/support/command.ts";
import { compressedLayer, type LayerCompression } from "./compressed-layer.ts";
import { compressionOf } from "./layer-content.ts";

const both: readonly LayerCompression[] = ["gzip", "zstd"];

async function compressed(content: Uint8Array, compression: LayerCompression, size: number): Promise<Buffer> {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < content.length; at += size) {
      yield content.subarray(at, at + size);
    }
  }
  const parts: Uint8Array[] = [];
  for await (const part of compressedLayer(pieces(), compression)) {
    parts.push(part);
  }
  return Buffer.concat(parts);
}

const text = Buffer.from("some words of a layer. ".repeat(200_000));
const mixed = Buffer.concat([text, randomBytes(1_000_000), text.subarray(0, 1234)]);

for (const compression of both) {
  test(`${compression}: the program of that name reads it, and knows it by its first bytes`, async () => {
    for (const content of [Buffer.alloc(0), Buffer.from("a"), text, mixed]) {
      const bytes = await compressed(content, compression, 100_000);
      assert.equal(compressionOf(bytes), compression);
      const { stdout, code, errorText } = await runCommand(compression, ["-dc"], { input: bytes });
      assert.equal(code, 0, errorText);
      assert.ok(stdout.equals(content));
    }
  });

  test(`${compression}: equal content gives equal bytes, however it comes`, async () => {
    const whole = await compressed(mixed, compression, mixed.length);
    for (const size of [777, 64 * 1024, 777_777]) {
      assert.ok(whole.equals(await compressed(mixed, compression, size)), `${size}`);
    }
  });

  test(`${compression}: a failing source's error is the reader's, and a reader that leaves ends the source`, async () => {
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield mixed;
      throw new Error("the source fails");
    }
    await assert.rejects(async () => {
      for await (const part of compressedLayer(failing(), compression)) {
        assert.ok(part.length > 0);
      }
    }, /the source fails/);

    const ended = Promise.withResolvers<void>();
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) {
          yield mixed;
        }
      } finally {
        ended.resolve();
      }
    }
    let parts = 0;
    for await (const _ of compressedLayer(endless(), compression)) {
      if (++parts === 3) {
        break;
      }
    }
    await ended.promise;
  });
}
