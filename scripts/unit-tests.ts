/**
 * The compiled unit tests of one shard, all in this process: to load the code anew for each file takes longer than most
 * tests do. `node scripts/unit-tests.ts SHARD/SHARDS`. Files on their own run by `node --test`.
 */
import { globSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { dot } from "node:test/reporters";

import { root } from "./program.ts";

const [shard = 1, shards = 1] = (process.argv[2] ?? "1/1").split("/").map(Number);
const files = globSync("dist/src/**/*.test.js", { cwd: root })
  .toSorted()
  .filter((_, index) => index % shards === shard - 1)
  .map((file) => join(root, file));
const tests = run({ files, isolation: "none", timeout: 180_000 });
tests.once("test:fail", () => {
  process.exitCode = 1;
});
tests.compose(dot).pipe(process.stdout);
