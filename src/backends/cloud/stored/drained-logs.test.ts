import assert from "node:assert/strict";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import path from "node:path";
import { it } from "node:test";

import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { DrainedLogs } from "./drained-logs.ts";

it("logs are found and removed without a list of those of all containers", async (t) => {
  const directory = scratchDirectory();
  const ids = ["a", "b"].map((digit) => digit.repeat(64));
  const nameOf = (id: string) => `${id}.000001.0123456789abcdef.1.log`;
  for (const id of ids) {
    await fs.writeFile(path.join(directory, nameOf(id)), "");
  }
  const logs = new DrainedLogs(directory, { logDrainMax: 1_000, cloud: { isKept: true } });
  await logs.open();
  const listed = t.mock.method(fs, "readdir");
  syncBuiltinESMExports();
  const [first = "", second = ""] = ids;
  assert.ok((await logs.find(first)) !== undefined);
  await logs.remove(first);
  assert.equal(await logs.find(first), undefined);
  await logs.leaveToCloud(second, undefined);
  assert.equal(listed.mock.callCount(), 0);
  listed.mock.restore();
  syncBuiltinESMExports();
  assert.deepEqual(await fs.readdir(directory), [`${second}.cloud`]);
});
