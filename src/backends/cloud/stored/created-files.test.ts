import assert from "node:assert/strict";
import { it } from "node:test";

import type { Header } from "tar-stream";

import { CreatedFiles } from "./created-files.ts";

it("entries of paths are looked up in turns of the event loop, each of few elements", async () => {
  const deep = "a/".repeat(2_000);
  const layer = {
    open: () => assert.fail("its content is not read"),
    async *headers() {
      yield { name: deep, type: "directory", size: 0 } as Header;
    },
  };
  const container = {
    layers: [layer],
    mounts: [],
    isReadOnly: false,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const staged = { addTo: () => Promise.resolve() };
  using files = await CreatedFiles.read("created", container, staged, new AbortController().signal);
  let turns = 0;
  let next = setImmediate(function count() {
    turns++;
    next = setImmediate(count);
  });
  const paths = Array.from({ length: 300 }, () => `/${deep}`);
  assert.ok((await Array.fromAsync(files.entries(paths))).length >= paths.length);
  clearImmediate(next);
  assert.ok(turns >= 5, `${turns} turns`);
});
