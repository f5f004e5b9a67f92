import assert from "node:assert/strict";
import { chmod, chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, it } from "node:test";

import { collectLeftovers, type Remnant } from "./leftovers.ts";

const nobody = 65_534;

describe("what is left in a state directory", () => {
  const isRoot = process.geteuid?.() === 0;

  it("is found by its owner, who may not list the directory above", { skip: !isRoot }, async () => {
    const above = await mkdtemp(path.join(tmpdir(), "sockerless-leftovers-"));
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
      await rm(above, { recursive: true });
    }
    assert.deepEqual(
      found.map(({ id }) => id),
      [path.join(state, "damaged/once")],
    );
  });
});
