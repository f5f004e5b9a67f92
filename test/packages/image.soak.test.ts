/** The container image: two builds are equal. `npm run soak -- packages`. */
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { buildImage } from "../image/built-image.ts";
import { scratchDirectory } from "../support/scratch.ts";

test("the image is the same in two builds", async () => {
  const directory = scratchDirectory();
  const [first, second] = [join(directory, "first"), join(directory, "second")];
  await Promise.all([mkdir(first), mkdir(second)]);
  const archives = [await buildImage(first), await buildImage(second)] as const;
  const [one, other] = await Promise.all(archives.map((each) => readFile(each)));
  assert.ok(one?.equals(other ?? Buffer.alloc(0)));
});
