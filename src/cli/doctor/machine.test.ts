import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { after, describe, it } from "node:test";

import { findingsOf, isHealthy } from "./doctor.ts";
import { type Machine, machineChecks } from "./machine.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const nowMs = Date.UTC(2026, 0, 1);
const directory = scratchDirectory();

/** A machine, whole or broken. */
interface Scene {
  readonly machine: Machine;
  readonly settings: { hosts: readonly string[]; runtime: undefined; stateDir: string };
}

const served = createServer();
await new Promise<void>((resolve) => served.listen(join(directory, "served.sock"), resolve));
after(() => served.close());

/** A machine on which these checks find something broken, and no others. */
function sceneWith(broken: ReadonlySet<string>): Scene {
  const root = mkdtempSync(join(directory, "root-"));
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const has = (check: string): boolean => !broken.has(check);
  put("proc/sys/kernel/osrelease", has("kernel") ? "6.1.0-18-amd64\n" : "5.4.0-1-amd64\n");
  put("proc/filesystems", `nodev\tproc\n\text4\n${has("overlayfs") ? "nodev\toverlay\n" : ""}`);
  put("sys/fs/cgroup/cgroup.controllers", has("cgroups") ? "cpuset cpu io memory pids\n" : "cpu\n");
  put("proc/modules", has("nftables") ? "nf_tables 300000 0 - Live 0x0\n" : "ext4 1 0 - Live 0x0\n");
  put("sys/class/rtc/rtc0/since_epoch", String(nowMs / 1000 + (has("clock") ? 2 : 3600)));
  put("bin/runc", `#!/bin/sh\n${has("runtime") ? "echo runc version 1.1.5" : "exit 3"}\n`);
  chmodSync(join(root, "bin/runc"), 0o755);
  return {
    machine: { root, uid: has("user") ? 0 : 1000, path: join(root, "bin"), nowMs },
    settings: {
      hosts: [`unix://${join(directory, has("addresses") ? "free.sock" : "served.sock")}`],
      runtime: undefined,
      stateDir: root,
    },
  };
}

/** The checks that can be broken here; that of the disk needs a file system of its own. */
const checks = ["user", "kernel", "overlayfs", "cgroups", "runtime", "nftables", "clock", "addresses"];

async function notOk(broken: readonly string[]): Promise<string[]> {
  const { machine, settings } = sceneWith(new Set(broken));
  const findings = await findingsOf(machineChecks(settings, machine));
  return findings
    .filter(({ check, status }) => status !== "ok" && check !== "disk")
    .map(({ check }) => check);
}

describe("the doctor of this machine", () => {
  it("finds nothing where nothing is broken", async () => {
    assert.deepEqual(await notOk([]), []);
  });
  for (const check of checks) {
    it(`finds a broken ${check}, and that alone`, async () => {
      assert.deepEqual(await notOk([check]), [check]);
    });
    it(`finds ${check} well where all else is broken`, async () => {
      const others = checks.filter((each) => each !== check);
      assert.deepEqual(await notOk(others), others);
    });
  }
  it("looks for nf_tables among the symbols of a kernel without modules", async () => {
    const { machine, settings } = sceneWith(new Set());
    rmSync(join(machine.root, "proc/modules"));
    const statusWith = async (symbols: string): Promise<string | undefined> => {
      writeFileSync(join(machine.root, "proc/kallsyms"), symbols);
      const findings = await findingsOf(machineChecks(settings, machine));
      return findings.find(({ check }) => check === "nftables")?.status;
    };
    assert.equal(await statusWith("0 t nf_tables_newtable\n"), "ok");
    assert.equal(await statusWith("0 t nf_hook_slow\n"), "wrong");
  });
  it("takes what cannot be read for unknown, and that is no reason to fail", async () => {
    const { machine, settings } = sceneWith(new Set());
    rmSync(join(machine.root, "sys/class"), { recursive: true });
    const findings = await findingsOf(machineChecks(settings, machine));
    const clock = findings.find(({ check }) => check === "clock");
    assert.deepEqual([clock?.status, /no hardware clock/.test(clock?.text ?? "")], ["unknown", true]);
    assert.ok(isHealthy(findings));
  });
});
