import assert from "node:assert/strict";
import { test } from "node:test";

import { Slots } from "./slots.ts";

test("lines of the same rank take turns, however many wait in one", async () => {
  const slots = new Slots(1);
  const served: string[] = [];
  const first = await slots.enter();
  const enter = async (line: string): Promise<void> => {
    using _slot = await slots.enter({ line, order: () => 0 });
    served.push(line);
  };
  const all = [..."aaaab"].map(enter);
  first[Symbol.dispose]();
  await Promise.all(all);
  assert.deepEqual(served, [..."abaaa"]);
});
