import assert from "node:assert/strict";
import { readdir, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { it } from "node:test";

import { openState } from "../backends/state/state.ts";
import { systemClock } from "../common/clock.ts";
import { backup, restore } from "./backup.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

it("backups of one file at a time leave a whole one, and nothing beside it but others' under way", async () => {
  const state = scratchDirectory();
  await (await openState({ directory: state, clock: systemClock })).close();
  const directory = scratchDirectory();
  const file = path.join(directory, "backup.tar.gz");
  const [killed, underWay] = [".new-0123abcd-backup.tar.gz", ".new-4567cdef-backup.tar.gz"];
  await writeFile(path.join(directory, killed), "");
  await utimes(path.join(directory, killed), 1, 1);
  await writeFile(path.join(directory, underWay), "");
  await Promise.all([1, 2, 3].map(() => backup(state, file, false)));
  assert.deepEqual((await readdir(directory)).sort(), [underWay, "backup.tar.gz"]);
  const restored = path.join(scratchDirectory(), "state");
  await restore(restored, file);
  assert.ok((await readdir(restored)).includes("db"));
});
