import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import zlib, { gunzipSync } from "node:zlib";

import { runCommand } from "../../../test/support/command.ts";
import { gzipInParallel } from "./parallel-gzip.ts";

async function* piecesOf(content: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) {
    yield content.subarray(at, at + size);
  }
}

async function gzipped(content: Uint8Array, size = 100_000): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of gzipInParallel(piecesOf(content, size))) {
    parts.push(part);
  }
  return Buffer.concat(parts);
}

const text = Buffer.alloc(5_000_000);
for (let at = 0, word = 0; at < text.length; word = (word * 31 + 7) % 10_007) {
  at += text.write(`${word} `, at) || 1;
}

test("parallel compression gives a single gzip member", async () => {
  const mixed = Buffer.concat([text, randomBytes(2_000_000), text.subarray(0, 1234)]);
  for (const content of [Buffer.alloc(0), Buffer.from("a"), text, mixed, mixed.subarray(0, 512 * 1024)]) {
    const bytes = await gzipped(content);
    assert.ok(gunzipSync(bytes).equals(content));
    const { stdout, code, errorText } = await runCommand("gzip", ["-dc"], { input: bytes });
    assert.equal(code, 0, errorText);
    assert.ok(stdout.equals(content));
  }
});

test("equal content gives equal bytes, however it comes, and text becomes smaller", async () => {
  const whole = await gzipped(text);
  assert.ok(whole.equals(await gzipped(text, 777_777)));
  assert.ok(whole.length < text.length / 2, `${whole.length} bytes`);
});

test("noise is stored, and a failing source's error is the reader's", async () => {
  const content = randomBytes(3_000_000);
  assert.ok((await gzipped(content)).length < content.length * 1.001);
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield content;
    throw new Error("the source fails");
  }
  await assert.rejects(async () => {
    for await (const part of gzipInParallel(failing())) {
      assert.ok(part.length > 0);
    }
  }, /the source fails/);
});

test("a block that cannot be compressed is the reader's failure, also while the source is silent", async (context) => {
  const failed = Promise.withResolvers<void>();
  context.mock.method(zlib, "deflateRaw", (...args: unknown[]) => {
    const done = args.at(-1) as (error: Error) => void;
    setImmediate(() => {
      done(new Error("out of memory"));
      failed.resolve();
    });
  });
  syncBuiltinESMExports();
  context.after(() => {
    context.mock.restoreAll();
    syncBuiltinESMExports();
  });
  const { gzipInParallel: gzipWithoutMemory } = (await import(
    `${new URL("./parallel-gzip.js", import.meta.url)}?without-memory`
  )) as { gzipInParallel: typeof gzipInParallel };
  async function* silent(): AsyncGenerator<Uint8Array> {
    yield randomBytes(1024 ** 2);
    await failed.promise;
    await nextTurn(); // In which a rejection that nobody handles is told.
  }
  await assert.rejects(async () => {
    for await (const part of gzipWithoutMemory(silent())) {
      assert.ok(part.length > 0);
    }
  }, /out of memory/);
});

test("files are read beside any number of compressions", async () => {
  let isOver = false;
  const compressed = Promise.all(Array.from({ length: 8 }, () => gzipped(text))).finally(() => {
    isOver = true;
  });
  let asked = 0;
  for (; !isOver; asked += 1) {
    await stat(".");
  }
  await compressed;
  // Behind the blocks of all of them it would be some five.
  assert.ok(asked > 30, `${asked} files were asked for meanwhile`);
});
