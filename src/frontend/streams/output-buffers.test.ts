import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { framesOf } from "../../../test/support/raw-client.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { BufferSupply, OutputBuffers } from "./output-buffers.ts";
import { leastWindow } from "../../agent-client/receive-window.ts";
import { type Framing, onItsWay, outputBufferSize, smallBufferSize } from "./thread-messages.ts";

const mib = 1024 * 1024;

interface Posted {
  readonly buffers: { readonly buffer: Uint8Array; readonly length: number }[];
  readonly events: string[];
  readonly output: OutputBuffers;
  /** Everything that was posted, one buffer after the other. */
  bytes(): Buffer;
}

function outputOf(framing: Framing, supply = new BufferSupply(4, new ByteBudget(1024 * mib))): Posted {
  const buffers: Posted["buffers"] = [];
  const events: string[] = [];
  const output = new OutputBuffers(framing, supply, {
    post: (buffer, length) => buffers.push({ buffer, length }),
    exhausted: () => events.push("exhausted"),
    available: () => events.push("available"),
  });
  const bytes = (): Buffer => Buffer.concat(buffers.map(({ buffer, length }) => buffer.subarray(0, length)));
  return { buffers, events, output, bytes };
}

test("frames that come as such stay whole in every buffer, wherever they were cut on their way", async () => {
  const lengths = fc.array(fc.constantFrom(0, 1, 100, 16_384, smallBufferSize - 9), {
    minLength: 1,
    maxLength: 60,
  });
  const pieces = fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(lengths, pieces, async (all, sizes) => {
      const frames = Buffer.concat(
        all.map((length, index) => {
          const frame = Buffer.alloc(8 + length, index);
          frame.writeUInt32BE(0x01_00_00_00);
          frame.writeUInt32BE(length, 4);
          return frame;
        }),
      );
      const { buffers, output, bytes } = outputOf("multiplexed");
      for (let at = 0, turns = 0; at < frames.length; turns++) {
        const end = Math.min(at + (sizes[turns % sizes.length] ?? 1), frames.length);
        output.write(3, frames, at, end);
        at = end;
        if (turns % 3 === 0) {
          await turn();
        }
      }
      output.end();
      for (const { buffer, length } of buffers) {
        framesOf(Buffer.from(buffer.subarray(0, length)));
      }
      assert.ok(bytes().equals(frames));
    }),
    { numRuns: 50 },
  );
});

test("a frame larger than a small buffer is whole in the end, and one that is cut is left out", () => {
  const frameOf = (length: number): Buffer => {
    const frame = Buffer.alloc(8 + length, 7);
    frame.writeUInt32BE(0x02_00_00_00);
    frame.writeUInt32BE(length, 4);
    return frame;
  };
  const large = Buffer.concat([frameOf(5), frameOf(90_000), frameOf(300_000), frameOf(6)]);
  const supply = new BufferSupply(4, new ByteBudget(0));
  for (const resources of [undefined, supply]) {
    const { output, bytes } = outputOf("multiplexed", resources);
    output.write(3, large, 0, large.length);
    output.write(3, frameOf(10), 0, 12);
    output.end();
    assert.ok(bytes().equals(large));
    output.discard();
  }
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("every buffer ends with a frame, and no byte is lost or moved to another channel", () => {
  const writes = fc.array(
    fc.record({
      channel: fc.constantFrom(1, 2),
      length: fc.constantFrom(1, 7, 65_536, outputBufferSize - 9, outputBufferSize - 8, outputBufferSize + 5),
    }),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(writes, (all) => {
      const { buffers, output, bytes } = outputOf("multiplexed");
      const expected = new Map([
        [1, 0],
        [2, 0],
      ]);
      for (const { channel, length } of all) {
        output.write(channel, new Uint8Array(length).fill(channel), 0, length);
        expected.set(channel, (expected.get(channel) ?? 0) + length);
      }
      output.end();
      for (const { buffer, length } of buffers) {
        framesOf(Buffer.from(buffer.subarray(0, length)));
      }
      for (const channel of [1, 2]) {
        const data = framesOf(bytes()).filter((frame) => frame.channel === channel);
        assert.equal(
          data.reduce((sum, frame) => sum + frame.data.length, 0),
          expected.get(channel),
        );
        assert.ok(data.every((frame) => frame.data.every((byte) => byte === channel)));
      }
    }),
    { numRuns: 30 },
  );
});

test("what is written in one turn leaves as one frame, and at the turn's end", async () => {
  const { buffers, output, bytes } = outputOf("multiplexed");
  output.write(1, Buffer.from("ab"), 0, 2);
  output.write(1, Buffer.from("xcdx"), 1, 3);
  assert.equal(buffers.length, 0);
  await turn();
  assert.deepEqual(
    framesOf(bytes()).map(({ data }) => data.toString()),
    ["abcd"],
  );
});

test("without room output waits in one buffer, and leaves when one comes back", async () => {
  const { buffers, events, output, bytes } = outputOf("raw");
  const full = new Uint8Array(outputBufferSize);
  const most = onItsWay.output.most / outputBufferSize;
  for (let index = 0; index < most; index++) {
    output.write(1, full, 0, full.length);
  }
  assert.deepEqual(events, ["exhausted"]);
  output.write(1, Buffer.from("late"), 0, 4);
  await turn();
  assert.equal(buffers.length, most);
  for (let index = 0; index < most; index++) {
    output.returned(buffers[index]?.buffer ?? full);
  }
  assert.deepEqual(events, ["exhausted", "available"]);
  assert.equal(bytes().subarray(-4).toString(), "late");
});

/** Writes output as an agent would, until the stream is told to stop. */
function fill(posted: Posted): void {
  const chunk = new Uint8Array(smallBufferSize);
  while (!posted.events.includes("exhausted")) {
    posted.output.write(1, chunk, 0, chunk.length);
  }
}

const sizeOf = (streams: readonly Posted[]): number =>
  streams.flatMap(({ buffers }) => buffers).reduce((sum, { buffer }) => sum + buffer.byteLength, 0);

test("streams whose clients do not read hold a budget together, and each a little beside it", () => {
  const supply = new BufferSupply(4, new ByteBudget(32 * mib));
  const stalled = Array.from({ length: 500 }, () => outputOf("raw", supply));
  stalled.forEach(fill);
  assert.ok(sizeOf(stalled.slice(0, 1)) >= 3 * mib, "one alone has what full speed takes");
  assert.ok(sizeOf(stalled) <= 32 * mib + stalled.length * onItsWay.output.least, `${sizeOf(stalled)} bytes`);
  for (const { buffers, output } of stalled.slice(1)) {
    buffers.splice(0).forEach(({ buffer }) => void output.returned(buffer));
  }
  for (const { output } of stalled) {
    output.discard();
  }
  assert.ok(supply.share >= onItsWay.output.most, "all is given back, also by those that are given up");
});

test("a stream that has only the least beside stalled ones goes on whenever its client reads", () => {
  const supply = new BufferSupply(4, new ByteBudget(0));
  const stream = outputOf("raw", supply);
  for (let round = 0; round < 3; round++) {
    fill(stream);
    stream.events.length = 0;
    stream.buffers.splice(0).forEach(({ buffer }) => void stream.output.returned(buffer));
    assert.deepEqual(stream.events, ["available"]);
  }
});

test("a stream that nobody reads beside thousands of others has 160 KiB at most, its window included", () => {
  assert.ok(leastWindow + onItsWay.output.least + smallBufferSize <= 160 * 1024);
});
