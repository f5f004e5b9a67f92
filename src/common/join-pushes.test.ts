import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";

import { joinPushes } from "./join-pushes.ts";

test("chunks that are pushed in one tick are read as one, and all before the end", async () => {
  const stream = new Readable({ read() {} });
  let noted = 0;
  joinPushes(stream, (chunk) => {
    noted += chunk.length;
  });
  for (let sent = 0; sent < 1000; sent++) {
    stream.push(Buffer.of(1));
  }
  setImmediate(() => {
    stream.push(Buffer.of(2));
    stream.push(null);
  });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) {
    chunks.push(chunk as Buffer);
  }
  assert.deepEqual(
    chunks.map(({ length }) => length),
    [1000, 1],
  );
  assert.equal(noted, 1001);
});
