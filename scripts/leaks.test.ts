import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";

import { findLeaks, takeInventory } from "./leaks.ts";

async function sleeper(context: TestContext, argv0: string): Promise<ChildProcess> {
  const child = spawn("sleep", ["60"], { argv0, stdio: "ignore" });
  context.after(() => child.kill("SIGKILL"));
  await once(child, "spawn");
  return child;
}

describe("the leak check", () => {
  it("finds a process of ours that was not there before", async (context) => {
    const before = takeInventory();
    const child = await sleeper(context, "sockerless-agent");
    const leaks = await findLeaks(before, 0);
    assert.ok(leaks.includes(`process ${child.pid} sockerless-agent`), leaks.join("\n"));
  });

  it("finds directories of tests, and mounts in them", async (context) => {
    const before = takeInventory();
    const directory = mkdtempSync(join(tmpdir(), "skl-leak-"));
    const canMount = spawnSync("mount", ["-t", "tmpfs", "tmpfs", directory]).status === 0;
    context.after(() => {
      if (canMount) {
        spawnSync("umount", [directory]);
      }
      rmSync(directory, { recursive: true });
    });
    const foreign = mkdtempSync(join(tmpdir(), "somebody-"));
    context.after(() => rmSync(foreign, { recursive: true }));
    const leaks = await findLeaks(before, 0);
    assert.ok(leaks.includes(directory), leaks.join("\n"));
    assert.ok(!canMount || leaks.includes(`mount ${directory}`), leaks.join("\n"));
    assert.ok(!leaks.includes(foreign));
  });

  it("lets pass what was there before, what belongs to others, and what ends in time", async (context) => {
    const present = await sleeper(context, "sockerless-agent");
    const before = takeInventory();
    const foreign = await sleeper(context, "dockerd");
    const ending = await sleeper(context, "sockerless-shim");
    setTimeout(() => ending.kill(), 300);
    const leaks = await findLeaks(before, 60_000);
    for (const { pid } of [present, foreign, ending]) {
      assert.ok(!leaks.some((leak) => leak.startsWith(`process ${pid} `)), leaks.join("\n"));
    }
  });
});
