import assert from "node:assert/strict";
import { chmod, chown, mkdir } from "node:fs/promises";
import path from "node:path";
import { describe, it } from "node:test";

import { collectLeftovers, type Remnant } from "./leftovers.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const nobody = 65_534;

describe("what is left in a state directory", () => {
  const isRoot = process.geteuid?.() === 0;

  it("is found by its owner, who may not list the directory above", { skip: !isRoot }, async () => {
    const above = scratchDirectory();
    const state = path.join(above, "state");
    await mkdir(path.join(state, "damaged/once"), { recursive: true });
    await chown(state, nobody, nobody);
    await chmod(above, 0o711);
    const found: Remnant[] = [];
    try {
      process.seteuid?.(nobody);
      const report = (remnant: Remnant): unknown => found.push(remnant);
      await collectLeftovers(state, { remove: false, nowMs: Date.now(), report });
    } finally {
      process.seteuid?.(0);
    }
    assert.deepEqual(
      found.map(({ id }) => id),
      [path.join(state, "damaged/once")],
    );
  });
});
