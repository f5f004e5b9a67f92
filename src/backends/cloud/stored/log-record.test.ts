import assert from "node:assert/strict";
import { test } from "node:test";

import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { logRecord } from "../../../../test/support/log-record.ts";
import { type RawRecord, readRecords } from "./log-record.ts";

async function* cutInto(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) {
    yield bytes.subarray(at, at + length);
  }
}

async function recordsOf(chunks: AsyncIterable<Uint8Array>): Promise<RawRecord[]> {
  const records: RawRecord[] = [];
  for await (const record of readRecords(chunks)) {
    records.push(record);
  }
  return records;
}

test("records are the same however their bytes are cut", async () => {
  const written = [logRecord(1, "one\n"), logRecord(2, "a longer one\n", Stream.STDERR), logRecord(3, "x")];
  const whole = Buffer.concat(written);
  for (let length = 1; length <= whole.length; length += 1) {
    const records = await recordsOf(cutInto(whole, length));
    assert.deepEqual(
      records.map(({ bytes }) => Buffer.from(bytes)),
      written,
    );
    assert.deepEqual(
      records.map(({ timeNs, stream, data }) => [timeNs, stream, Buffer.from(data).toString()]),
      [
        [1n, Stream.STDOUT, "one\n"],
        [2n, Stream.STDERR, "a longer one\n"],
        [3n, Stream.STDOUT, "x"],
      ],
    );
  }
});

test("a record that comes byte by byte is copied once, and not again for each of them", async (t) => {
  const record = logRecord(1, "x".repeat(3000));
  const joins = t.mock.method(Buffer, "concat");
  const [read] = await recordsOf(cutInto(record, 1));
  assert.equal(read?.data.length, 3000);
  const joined = joins.mock.calls.reduce(
    (bytes, { arguments: [list] }) => bytes + list.reduce((sum, { length }) => sum + length, 0),
    0,
  );
  assert.ok(joined < 3 * record.length, `${joined} bytes joined`);
});

test("a record is no larger than agents write them, as each reader who does not go on holds one", async () => {
  const largest = 65_512;
  const [read] = await recordsOf(cutInto(logRecord(1, "x".repeat(largest)), 4_096));
  assert.equal(read?.data.length, largest);
  for (const length of [24, 4_096, 2 * largest]) {
    const larger = cutInto(logRecord(1, "x".repeat(largest + 1)), length);
    await assert.rejects(recordsOf(larger), /a record of 65513 bytes/);
  }
});

test("what ends within a record, or is none, is no log", async () => {
  const record = logRecord(1, "one");
  for (const length of [1, record.length - 1]) {
    await assert.rejects(recordsOf(cutInto(record.subarray(0, length), 7)), /ends within a record/);
  }
  const unsound = [Buffer.from(record), Buffer.from(record), Buffer.from(record)] as const;
  unsound[0].writeUInt8(0, 0);
  unsound[1].writeUInt32LE(0xffff_ffff, 4);
  unsound[2].writeUInt8(0, 21);
  for (const [index, why] of [/no record begins/, /a record of 4294967295 bytes/, /checksum/].entries()) {
    for (const length of [1, 1000]) {
      await assert.rejects(recordsOf(cutInto(unsound[index] ?? record, length)), why);
    }
  }
});
