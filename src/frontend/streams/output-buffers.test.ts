import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { framesOf } from "../../../test/support/raw-client.ts";
import { BufferSupply, OutputBuffers } from "./output-buffers.ts";
import { type Framing, outputBufferSize, outputCredits } from "./thread-messages.ts";

interface Posted {
  readonly buffers: { readonly buffer: Uint8Array; readonly length: number }[];
  readonly events: string[];
  readonly output: OutputBuffers;
  /** Everything that was posted, one buffer after the other. */
  bytes(): Buffer;
}

function outputOf(framing: Framing): Posted {
  const buffers: Posted["buffers"] = [];
  const events: string[] = [];
  const output = new OutputBuffers(framing, new BufferSupply(4), {
    post: (buffer, length) => buffers.push({ buffer, length }),
    exhausted: () => events.push("exhausted"),
    available: () => events.push("available"),
  });
  const bytes = (): Buffer => Buffer.concat(buffers.map(({ buffer, length }) => buffer.subarray(0, length)));
  return { buffers, events, output, bytes };
}

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

test("without credits output waits in one buffer, and leaves when one comes back", async () => {
  const { buffers, events, output, bytes } = outputOf("raw");
  const full = new Uint8Array(outputBufferSize);
  for (let index = 0; index < outputCredits; index++) {
    output.write(1, full, 0, full.length);
  }
  assert.deepEqual(events, ["exhausted"]);
  output.write(1, Buffer.from("late"), 0, 4);
  await turn();
  assert.equal(buffers.length, outputCredits);
  for (let index = 0; index < outputCredits; index++) {
    output.returned(buffers[index]?.buffer ?? full);
  }
  assert.deepEqual(events, ["exhausted", "available"]);
  assert.equal(bytes().subarray(-4).toString(), "late");
});
