import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import fc from "fast-check";

import { checkout } from "../../../test/support/daemon.ts";
import { ByteBudget } from "../../common/byte-budget.ts";

import { DetachScanner, defaultDetachKeys, detachKeysOf, parseDetachKeys } from "./detach-keys.ts";
import { BufferSupply, OutputBuffers } from "./output-buffers.ts";

/** Bytes are in hex. */
interface DetachVector {
  readonly keys: string;
  readonly chunks: readonly string[];
  readonly passed: string;
  readonly detached: boolean;
}

/** See {@link DetachVector}. */
interface FrameVector {
  readonly stream: number;
  readonly data: string;
  readonly frame: string;
}

const vectors = <Vector>(name: string): readonly Vector[] =>
  JSON.parse(readFileSync(join(checkout, "test/fixtures/streams", name), "utf8")) as Vector[];
const unhex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));

/** Bytes of chunks that a scanner lets through, in hex, until the keys. */
function typed(keys: Uint8Array, chunks: readonly Uint8Array[]): { passed: string; detached: boolean } {
  const scanner = new DetachScanner(keys);
  const passed: Uint8Array[] = [];
  for (const chunk of chunks) {
    const { pass, detached } = scanner.scan(chunk);
    passed.push(...pass);
    if (detached) {
      return { passed: Buffer.concat(passed).toString("hex"), detached };
    }
  }
  return { passed: Buffer.concat(passed).toString("hex"), detached: false };
}

test("Docker's notation is read as Docker reads it", () => {
  assert.deepEqual(parseDetachKeys("ctrl-a,b"), Uint8Array.of(1, 0x62));
  assert.deepEqual(
    parseDetachKeys("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_,DEL"),
    Uint8Array.of(0, 27, 28, 29, 30, 31, 127),
  );
  assert.deepEqual(detachKeysOf(""), defaultDetachKeys);
  for (const wrong of ["ctrl-A", "ctrl-", "ctrl-ab", "ab", "a,", "é", "del"]) {
    assert.equal(parseDetachKeys(wrong), undefined, wrong);
  }
  assert.equal(parseDetachKeys("a,".repeat(511).concat("a"))?.length, 512);
  assert.equal(parseDetachKeys("a,".repeat(512).concat("a")), undefined, "more than 1,024 characters");
  assert.throws(() => detachKeysOf("ctrl-!"), {
    kind: "invalid",
    message: "Invalid detach keys (ctrl-!) provided",
  });
});

test("the keys are found wherever the chunks are cut, and nothing before them is lost", () => {
  const keys = Uint8Array.of(16, 17);
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(16, 17, 97), { maxLength: 12 }),
      fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 4 }),
      (bytes, cuts) => {
        const input = Uint8Array.from(bytes);
        const borders = [
          0,
          ...cuts.map((cut) => Math.min(cut, input.length)).sort((a, b) => a - b),
          input.length,
        ];
        const chunks = borders.slice(1).map((end, index) => input.slice(borders[index], end));
        assert.deepEqual(typed(keys, chunks), typed(keys, [input]));
      },
    ),
  );
});

test("the keys are found as in agents, which read the same vectors", () => {
  for (const { keys, chunks, ...found } of vectors<DetachVector>("detach-keys.json")) {
    assert.deepEqual(
      typed(
        unhex(keys),
        chunks.map((chunk) => unhex(chunk)),
      ),
      found,
    );
  }
});

test("frames are as in agents, which read the same vectors", () => {
  for (const { stream, data, frame } of vectors<FrameVector>("frames.json")) {
    let made = "";
    const output = new OutputBuffers("multiplexed", new BufferSupply(1, new ByteBudget(1024 * 1024)), {
      post: (buffer, length) => {
        made += Buffer.from(buffer.subarray(0, length)).toString("hex");
      },
      exhausted: () => {},
      available: () => {},
    });
    output.write(stream, unhex(data), 0, data.length / 2);
    output.end();
    assert.equal(made, frame);
  }
});

test("what only begins like the keys goes on to the process, as in dockerd", () => {
  const keys = Uint8Array.of(16, 17);
  assert.deepEqual(typed(keys, [Uint8Array.of(97, 16), Uint8Array.of(98)]), {
    passed: "611062",
    detached: false,
  });
  assert.deepEqual(typed(keys, [Uint8Array.of(97, 16), Uint8Array.of(17, 98)]), {
    passed: "61",
    detached: true,
  });
  // A second ctrl-p disappoints the first and does not begin anew.
  assert.deepEqual(typed(keys, [Uint8Array.of(16, 16, 17)]), { passed: "101011", detached: false });
});
