import assert from "node:assert/strict";
import { test } from "node:test";

import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";

import {
  ArchivePutRequestSchema,
  LogsResponseSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  Stream,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import { fromBinary } from "@bufbuild/protobuf";
import {
  archiveChunkTag,
  type BulkShape,
  encodeBulkHead,
  logsOutput,
  sessionOutput,
  stdinTag,
} from "./bulk-messages.ts";
import { FrameReader } from "./frame-reader.ts";

function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

const session = (value: MessageInitShape<typeof SessionResponseSchema>): Buffer =>
  framed(toBinary(SessionResponseSchema, create(SessionResponseSchema, value)));

interface Read {
  readonly data: Map<number, Buffer>;
  readonly messages: Uint8Array[];
  readonly atBoundary: boolean;
}

function read(shape: BulkShape, chunks: readonly Uint8Array[]): Read {
  const data = new Map<number, Buffer>();
  const messages: Uint8Array[] = [];
  const reader = new FrameReader(shape, {
    data: (channel, source, start, end) => {
      assert.ok(end > start);
      data.set(channel, Buffer.concat([data.get(channel) ?? Buffer.alloc(0), source.subarray(start, end)]));
    },
    message: (bytes) => messages.push(bytes),
  });
  for (const chunk of chunks) {
    reader.push(chunk);
  }
  return { data, messages, atBoundary: reader.atBoundary };
}

/** Cuts bytes at the given places. */
function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const borders = [
    0,
    ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b),
    bytes.length,
  ];
  return borders.slice(1).map((end, index) => bytes.subarray(borders[index], end));
}

test("messages of protobuf-es are read the same, wherever the stream is split", () => {
  const out = Buffer.from("x".repeat(300));
  const bytes = Buffer.concat([
    session({ message: { case: "started", value: { pid: 3n } } }),
    session({ message: { case: "stdout", value: { offset: 0n, data: out } } }),
    session({ message: { case: "heartbeat", value: {} } }),
    session({ message: { case: "stderr", value: { offset: 0n, data: Buffer.from("e") } } }),
    session({ message: { case: "stdout", value: { offset: 300n, data: Buffer.from("y") } } }),
    session({ message: { case: "exit", value: { code: 3 } } }),
  ]);
  fc.assert(
    fc.property(fc.array(fc.nat(), { maxLength: 20 }), (places) => {
      const { data, messages, atBoundary } = read(sessionOutput, cutAt(bytes, places));
      assert.equal(data.get(1)?.toString(), `${out}y`);
      assert.equal(data.get(2)?.toString(), "e");
      assert.deepEqual(
        messages.map((message) => fromBinary(SessionResponseSchema, message).message.case),
        ["started", "heartbeat", "exit"],
      );
      assert.equal(atBoundary, true);
    }),
  );
});

test("log chunks have their stream number as channel, with one offset over both", () => {
  const chunk = (stream: Stream, offset: bigint, text: string): Buffer =>
    framed(
      toBinary(
        LogsResponseSchema,
        create(LogsResponseSchema, {
          message: { case: "chunk", value: { stream, offset, data: Buffer.from(text) } },
        }),
      ),
    );
  const { data } = read(logsOutput, [
    chunk(Stream.STDOUT, 0n, "ab"),
    chunk(Stream.STDERR, 2n, "c"),
    chunk(Stream.STDOUT, 3n, "d"),
  ]);
  assert.equal(data.get(1)?.toString(), "abd");
  assert.equal(data.get(2)?.toString(), "c");
});

test("a gap in the offsets is an error", () => {
  const bytes = session({ message: { case: "stdout", value: { offset: 5n, data: Buffer.from("x") } } });
  assert.throws(() => read(sessionOutput, [bytes]), /bytes of the stream are missing/);
});

test("a message beyond the bound is refused before it is read", () => {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(64 * 1024 * 1024, 1);
  assert.throws(() => read(sessionOutput, [prefix]), /message of 67108864 bytes/);
  const other = Buffer.concat([Buffer.alloc(5), Buffer.alloc(40, 0xff)]);
  other.writeUInt32BE(100 * 1024, 1);
  assert.throws(() => read(sessionOutput, [other]), /message of 102400 bytes/);
});

test("a compressed message is refused", () => {
  assert.throws(() => read(sessionOutput, [Buffer.from([1, 0, 0, 0, 0])]), /compressed/);
});

test("messages without data are few at once, however long a stream lasts, and those of its time are taken", (t) => {
  const [empty, text] = [Buffer.alloc(5), framed(new Uint8Array(64 * 1024).fill(0x0a))];
  const many = Buffer.concat(Array<Buffer>(3_000).fill(empty));
  const refused = { code: Code.DataLoss, message: /too many messages besides its data/ };
  for (const message of [empty, framed(Uint8Array.of(0x12, 2, 0x12, 0))]) {
    assert.throws(() => read(sessionOutput, Array<Buffer>(3_000).fill(message)), refused);
  }
  assert.throws(() => read(sessionOutput, [text, text]), refused);
  let now = performance.now();
  t.mock.method(performance, "now", () => now);
  let heard = 0;
  const reader = new FrameReader(sessionOutput, { data: () => {}, message: () => (heard += 1) });
  now += 3_600_000;
  reader.push(many); // Waited for its reader.
  reader.push(text);
  assert.equal(heard, 3_001);
});

test("arbitrary bytes end in an error or in messages, never in a loop or a crash", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        read(sessionOutput, [bytes]);
      } catch (error) {
        assert.ok(error instanceof Error);
      }
    }),
  );
});

test("hand-encoded messages are read by protobuf-es", () => {
  for (const offset of [0, 1, 127, 128, 300_000, 2 ** 33, 2 ** 45]) {
    for (const length of [1, 127, 128, 65_536]) {
      const data = Buffer.alloc(length, 7);
      const stdin = Buffer.concat([encodeBulkHead(stdinTag, offset, length), data]);
      assert.equal(stdin.readUInt32BE(1), stdin.length - 5);
      const request = fromBinary(SessionRequestSchema, stdin.subarray(5)).message;
      assert.ok(request.case === "stdin");
      assert.equal(request.value.offset, BigInt(offset));
      assert.ok(Buffer.from(request.value.data).equals(data));
      const chunk = Buffer.concat([encodeBulkHead(archiveChunkTag, offset, length), data]);
      const put = fromBinary(ArchivePutRequestSchema, chunk.subarray(5)).message;
      assert.ok(put.case === "chunk");
      assert.equal(put.value.offset, BigInt(offset));
    }
  }
});
