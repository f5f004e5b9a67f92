import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";

import { readRawBody } from "./raw-body.ts";

const chunked = { "transfer-encoding": "chunked" };

/** A paused connection on which this has come. */
function connection(...packets: string[]): PassThrough {
  const stream = new PassThrough();
  stream.pause();
  for (const packet of packets) {
    stream.write(packet);
  }
  return stream;
}

/** The bytes that the body's reader left, to the end. */
async function restOf(stream: PassThrough): Promise<string> {
  stream.end();
  return Buffer.concat(await stream.toArray()).toString();
}

test("as many bytes are read as the header says, and what follows stays", async () => {
  const stream = connection("{}st", "din");
  assert.equal((await readRawBody(stream, { "content-length": "2" }, 100)).toString(), "{}");
  assert.equal(await restOf(stream), "stdin");
});

test("a chunked body is read to its last chunk, however it is cut", async () => {
  const text = '2;a=b\r\n{"\r\n4\r\na":1\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\nstdin';
  for (const packets of [[text], [...text]]) {
    const stream = connection(...packets);
    assert.equal((await readRawBody(stream, chunked, 100)).toString(), '{"a":1}');
    assert.equal(await restOf(stream), "stdin");
  }
});

test("a body that comes later is waited for", async () => {
  const stream = connection();
  const body = readRawBody(stream, { "content-length": "4" }, 100);
  stream.write("la");
  stream.write("te");
  assert.equal((await body).toString(), "late");
});

test("a body that is cut, too long or not framed as it should be is refused", async () => {
  const cut = connection("{");
  cut.end();
  await assert.rejects(readRawBody(cut, { "content-length": "2" }, 100), { kind: "invalid" });
  const gone = connection("{");
  const pending = assert.rejects(readRawBody(gone, { "content-length": "2" }, 100), { kind: "invalid" });
  gone.destroy();
  await pending;
  await assert.rejects(readRawBody(connection(), { "content-length": "101" }, 100), /too large/);
  await assert.rejects(readRawBody(connection("60\r\n"), chunked, 50), /too large/);
  await assert.rejects(readRawBody(connection("zz\r\n"), chunked, 100), /chunk length/);
  await assert.rejects(readRawBody(connection("1\r\nab\r\n"), chunked, 100), /chunked encoding/);
  await assert.rejects(readRawBody(connection("1".repeat(5000)), chunked, 100), /too much non-data/);
  await assert.rejects(
    readRawBody(connection("1\r\n \r\n".repeat(1000)), chunked, 2000),
    /too much non-data/,
  );
  await assert.rejects(
    readRawBody(connection("0\r\n", "a: b\r\n".repeat(1000)), chunked, 2000),
    /too much non-data/,
  );
});
