/** The doctor's look at the disk of the state directory, which needs file systems of its own: the other checks' tests stand beside them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { findingsOf } from "../../src/cli/doctor/doctor.ts";
import { machineChecks } from "../../src/cli/doctor/machine.ts";
import { scratchDirectory } from "../support/scratch.ts";

const directory = scratchDirectory();
const mounted: string[] = [];
after(() => {
  for (const path of mounted.toReversed()) {
    run("umount", path);
  }
});

function run(program: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
}

function fileSystem(name: string, ...args: readonly string[]): string {
  const path = join(directory, name);
  mkdirSync(path);
  run("mount", ...args, path);
  mounted.push(path);
  return path;
}

async function statusOn(stateDir: string): Promise<string | undefined> {
  const settings = { hosts: [], runtime: "no-such-runtime", stateDir };
  const findings = await findingsOf(machineChecks(settings));
  assert.equal(findings.find(({ check }) => check === "runtime")?.status, "wrong");
  return findings.find(({ check }) => check === "disk")?.status;
}

test("the disk is found too small, small, large enough, and one that takes no images", async () => {
  const memory = ["-t", "tmpfs", "tmpfs", "-o"];
  const small = fileSystem("small", ...memory, "size=64m");
  assert.equal(await statusOn(join(small, "not/there/yet")), "wrong");
  assert.equal(await statusOn(fileSystem("medium", ...memory, "size=2g")), "warning");
  const large = fileSystem("large", ...memory, "size=20g");
  assert.equal(await statusOn(large), "ok");
  const [lower = "", upper = "", work = ""] = ["lower", "upper", "work"].map((name) => join(large, name));
  for (const path of [lower, upper, work]) {
    mkdirSync(path);
  }
  const layers = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  assert.equal(await statusOn(fileSystem("layers", "-t", "overlay", "overlay", "-o", layers)), "wrong");
});
