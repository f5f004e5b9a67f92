import assert from "node:assert/strict";
import { test } from "node:test";

import { pagesOf } from "./pages.ts";

test("a list comes whole, page by page, and not without end", async () => {
  const pages: Readonly<Record<string, { readonly entries: readonly number[]; readonly next?: string }>> = {
    first: { entries: [1, 2], next: "second" },
    second: { entries: [], next: "third" },
    third: { entries: [3], next: "" },
  };
  const asked: (string | undefined)[] = [];
  const found: number[] = [];
  const ask = async (token = "first") => {
    asked.push(token);
    return pages[token] ?? { entries: [] };
  };
  for await (const { entries } of pagesOf(ask, ({ next }) => next)) {
    found.push(...entries);
  }
  assert.deepEqual(
    [found, asked],
    [
      [1, 2, 3],
      ["first", "second", "third"],
    ],
  );
  let count = 0;
  await assert.rejects(async () => {
    for await (const _page of pagesOf(
      async () => ({ next: "again" }),
      ({ next }) => next,
    )) {
      count += 1;
    }
  }, /a list of the cloud has more than 10000 pages/);
  assert.equal(count, 10_000);
});
