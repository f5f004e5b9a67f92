import assert from "node:assert/strict";
import { test } from "node:test";

import { LongRequests } from "./long-requests.ts";

test("of too many long requests the oldest that are not taken give way, and no short one", () => {
  const requests = new LongRequests();
  const gone: number[] = [];
  const add = (bytes: number, n: number): (() => void) => requests.add(bytes, () => gone.push(n));
  add(64 * 1024, 0);
  const taken = Array.from({ length: 16 }, (_, n) => add(4 * 1024 ** 2, 1 + n));
  assert.deepEqual(gone, []);
  taken[1]?.();
  taken[1]?.();
  add(4 * 1024 ** 2, 17);
  assert.deepEqual(gone, []);
  add(8 * 1024 ** 2, 18);
  assert.deepEqual(gone, [1, 3]);
});
