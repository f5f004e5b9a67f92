import assert from "node:assert/strict";
import { test } from "node:test";

import { pauseAfter, unevenPauseAfter } from "./pauses.ts";

test("pauses grow from the first to the longest, and stay so however often something fails", () => {
  const growth = { firstMs: 200, longestMs: 5_000 };
  assert.deepEqual(
    [1, 2, 3, 6, 2_000].map((failures) => pauseAfter(failures, growth)),
    [200, 400, 800, 5_000, 5_000],
  );
  assert.equal(pauseAfter(2, { ...growth, factor: 5 }), 1_000);
  const uneven = Array.from({ length: 100 }, () => unevenPauseAfter(2, growth));
  assert.ok(Math.min(...uneven) >= 200 && Math.max(...uneven) <= 400);
});
