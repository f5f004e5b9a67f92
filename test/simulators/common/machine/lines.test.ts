import assert from "node:assert/strict";
import { test } from "node:test";
import { LineReader } from "./lines.ts";

function linesOf(...chunks: readonly string[]): string[] {
  const lines: string[] = [];
  const reader = new LineReader((each) => lines.push(...each));
  for (const chunk of chunks) {
    reader.write(Buffer.from(chunk));
  }
  reader.end();
  return lines;
}

test("lines are whole however they arrive, empty ones are none, and the last needs no end", () => {
  assert.deepEqual(linesOf("a\nb", "c\n\n", "", "d"), ["a", "bc", "d"]);
  assert.deepEqual(linesOf("\n", "\n"), []);
});

test("a character that arrives in two parts is one", () => {
  const lines: string[] = [];
  const reader = new LineReader((each) => lines.push(...each));
  const bytes = Buffer.from("ä\n");
  reader.write(bytes.subarray(0, 1));
  reader.write(bytes.subarray(1));
  assert.deepEqual(lines, ["ä"]);
});

test("a line longer than an event is several, also between others of one chunk", () => {
  const lines = linesOf("x".repeat(200_000), "x".repeat(200_000), "\nshort\n");
  assert.deepEqual(
    lines.map(({ length }) => length),
    [262_118, 137_882, 5],
  );
  const together = linesOf(`a\nb\n${"x".repeat(300_000)}\nc\n\nd\ne`);
  assert.deepEqual(
    together.map(({ length }) => length),
    [1, 1, 262_118, 37_882, 1, 1, 1],
  );
});
