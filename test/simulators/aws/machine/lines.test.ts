import assert from "node:assert/strict";
import { test } from "node:test";
import { LineReader } from "./lines.ts";

function linesOf(...chunks: readonly string[]): string[] {
  const lines: string[] = [];
  const reader = new LineReader((line) => lines.push(line));
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
  const reader = new LineReader((line) => lines.push(line));
  const bytes = Buffer.from("ä\n");
  reader.write(bytes.subarray(0, 1));
  reader.write(bytes.subarray(1));
  assert.deepEqual(lines, ["ä"]);
});

test("a line longer than an event is several", () => {
  const lines = linesOf("x".repeat(200_000), "x".repeat(200_000), "\nshort\n");
  assert.deepEqual(
    lines.map(({ length }) => length),
    [262_118, 137_882, 5],
  );
});
