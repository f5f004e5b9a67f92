import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { test } from "node:test";

import { NonInteger, parseJson, readBoundedBody } from "./json-body.ts";

test("of the chunks of a body, which may have a byte each, the content alone is kept", async () => {
  const content = "content ".repeat(2_000);
  for (const headers of [{}, { "content-length": `${content.length}` }]) {
    const chunk = Buffer.alloc(1);
    const iterator = async function* (): AsyncGenerator<Buffer> {
      for (const byte of Buffer.from(content)) {
        chunk[0] = byte;
        yield chunk;
      }
    };
    let kept = 0;
    const memory = { received: () => {}, complete: (bytes: number) => (kept = bytes) };
    const request = { headers, iterator } as unknown as IncomingMessage;
    const { bytes } = await readBoundedBody(request, async () => memory);
    assert.deepEqual([String(bytes), kept], [content, content.length]);
  }
});

test("integers of 64 bits are exact, and a number that is written otherwise stays as written", () => {
  assert.deepEqual(parseJson('{"a":[9007199254740993,-9223372036854775808,18446744073709551615,7]}'), {
    a: [9_007_199_254_740_993n, -9_223_372_036_854_775_808n, 18_446_744_073_709_551_615n, 7],
  });
  for (const source of ["1000.0", "1e3", "-0.5", "1e400", "9".repeat(1_000_000)]) {
    assert.deepEqual(parseJson(`[${source}]`), [new NonInteger(source)]);
  }
});
