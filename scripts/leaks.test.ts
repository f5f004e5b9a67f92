import assert from "node:assert/strict";
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";

import { beginTestRun, ownTemporary } from "./leaks.ts";
import { root } from "./program.ts";

/** Interfaces, rules, groups and mounts are for root to make, in a machine that lets it. */
const isRoot = process.getuid?.() === 0;

async function sleeper(context: TestContext, options: SpawnOptions): Promise<ChildProcess> {
  const child = spawn("sleep", ["60"], { stdio: "ignore", ...options });
  context.after(() => child.kill("SIGKILL"));
  await once(child, "spawn");
  return child;
}

/** As a program is that no test started. */
const unmarked: NodeJS.ProcessEnv = { PATH: process.env["PATH"] };

/** Makes something with a program, and unmakes it at the end of the test; false where the machine does not let us. */
function make(context: TestContext, how: readonly string[], unmake: readonly string[]): boolean {
  const [program = "", ...args] = how;
  const made = spawnSync(program, args).status === 0;
  if (made) {
    const [undo = "", ...undoArgs] = unmake;
    context.after(() => spawnSync(undo, undoArgs));
  }
  return made;
}

function temporary(context: TestContext, prefix: string): string {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  context.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

describe("the leak check", () => {
  it("finds every process that the tests started, whatever it is", async (context) => {
    const run = beginTestRun();
    const child = await sleeper(context, { env: { ...process.env, ...run.env } });
    const leaks = await run.findLeaks(0);
    assert.ok(leaks.includes(`process ${child.pid} sleep`), leaks.join("\n"));
  });

  it("finds descendants whose parents have gone", async (context) => {
    const run = beginTestRun();
    const parent = spawn("sh", ["-c", "sleep 60 & echo $!"], {
      env: { ...process.env, ...run.env },
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [pid] = (await once(parent.stdout, "data")) as [Buffer];
    context.after(() => process.kill(Number(pid), "SIGKILL"));
    const leaks = await run.findLeaks(0);
    assert.ok(
      leaks.some((leak) => leak.startsWith(`process ${Number(pid)} `)),
      leaks.join("\n"),
    );
  });

  it("finds a process of sockerless that was not there before, though it has lost its environment", async (context) => {
    const run = beginTestRun();
    const child = await sleeper(context, { argv0: "sockerless-agent", env: unmarked });
    const leaks = await run.findLeaks(0);
    assert.ok(leaks.includes(`process ${child.pid} sockerless-agent`), leaks.join("\n"));
  });

  it("leaves to tests that run beside these what they have started", async (context) => {
    const run = beginTestRun();
    const other = beginTestRun();
    const env = { ...process.env, ...other.env };
    const child = await sleeper(context, { argv0: "sockerless-agent", env });
    assert.ok(!(await run.findLeaks(0)).some((leak) => leak.startsWith(`process ${child.pid} `)));
    assert.ok((await other.findLeaks(0)).includes(`process ${child.pid} sockerless-agent`));
  });

  it("finds directories of tests, and mounts in them", async (context) => {
    const run = beginTestRun();
    const directory = mkdtempSync(join(tmpdir(), "skl-leak-"));
    const canMount = make(context, ["mount", "-t", "tmpfs", "tmpfs", directory], ["umount", directory]);
    context.after(() => rmSync(directory, { recursive: true })); // After the other, which unmounts.
    const foreign = temporary(context, "somebody-");
    const leaks = await run.findLeaks(0);
    assert.ok(leaks.includes(directory), leaks.join("\n"));
    assert.ok(!canMount || leaks.includes(`mount ${directory}`), leaks.join("\n"));
    assert.ok(!leaks.includes(foreign));
  });

  it("knows the directories of every test", () => {
    const sources = globSync(["{src,test,scripts}/**/*.ts", "agent/**/*_test.go"], { cwd: root }).filter(
      (file) => !file.endsWith("leaks.test.ts"),
    );
    const made =
      /(?:mkdtemp(?:Sync)?\(\s*(?:path\.)?join\(\s*tmpdir\(\),|os\.MkdirTemp\("",)\s*["`]([^"`]*)["`]/g;
    const prefixes = sources.flatMap((file) =>
      [...readFileSync(join(root, file), "utf8").matchAll(made)].map(([, prefix = ""]) => ({ file, prefix })),
    );
    assert.ok(prefixes.length > 50, String(prefixes.length));
    assert.deepEqual(
      prefixes.filter(({ prefix }) => !ownTemporary.test(prefix)),
      [],
    );
  });

  it("finds loop devices whose file is in a directory of a test", { skip: !isRoot }, async (context) => {
    const directory = temporary(context, "skl-loop-");
    const image = join(directory, "disk");
    writeFileSync(image, Buffer.alloc(1024 * 1024));
    const run = beginTestRun();
    const { status, stdout } = spawnSync("losetup", ["--find", "--show", image], { encoding: "utf8" });
    if (status !== 0) {
      context.skip("there are no loop devices here");
      return;
    }
    const device = stdout.trim();
    context.after(() => spawnSync("losetup", ["--detach", device]));
    const leaks = await run.findLeaks(0);
    assert.ok(leaks.includes(`loop device ${device.slice("/dev/".length)} ${image}`), leaks.join("\n"));
  });

  it("finds network interfaces", { skip: !isRoot }, async (context) => {
    const run = beginTestRun();
    const name = `leak${process.pid}`;
    if (!make(context, ["ip", "link", "add", name, "type", "bridge"], ["ip", "link", "delete", name])) {
      context.skip("interfaces cannot be made here");
      return;
    }
    assert.ok((await run.findLeaks(0)).includes(`network interface ${name}`));
  });

  it("finds network namespaces that have a name", { skip: !isRoot }, async (context) => {
    const run = beginTestRun();
    const name = `leak-${process.pid}`;
    if (!make(context, ["ip", "netns", "add", name], ["ip", "netns", "delete", name])) {
      context.skip("network namespaces cannot be made here");
      return;
    }
    const leaks = await run.findLeaks(0);
    assert.ok(leaks.includes(`network namespace ${name}`), leaks.join("\n"));
    assert.ok(leaks.includes(`mount /run/netns/${name}`), leaks.join("\n"));
  });

  it("finds tables of packet rules, and rules in the tables of others", {
    skip: !isRoot,
  }, async (context) => {
    const run = beginTestRun();
    const table = `sockerless-leak-${process.pid}`;
    const other = `somebody-${process.pid}`;
    if (!make(context, ["nft", `add table ip ${table}`], ["nft", `delete table ip ${table}`])) {
      context.skip("packet rules cannot be made here");
      return;
    }
    const rules = `add table ip ${other}; add chain ip ${other} forward; add rule ip ${other} forward iifname skl0123456789ab accept`;
    assert.ok(make(context, ["nft", rules], ["nft", `delete table ip ${other}`]));
    const leaks = await run.findLeaks(0);
    assert.ok(leaks.includes(`table ip ${table}`), leaks.join("\n"));
    assert.ok(
      leaks.includes(`rule of table ip ${other}: iifname "skl0123456789ab" accept`),
      leaks.join("\n"),
    );
    assert.ok(!leaks.includes(`table ip ${other}`));
  });

  it("does not take a failure to read packet rules for none", { skip: !isRoot }, (context) => {
    const bin = temporary(context, "skl-nft-");
    writeFileSync(join(bin, "nft"), "#!/bin/sh\necho 'the kernel is busy' >&2\nexit 1\n");
    chmodSync(join(bin, "nft"), 0o755);
    const path = process.env["PATH"] ?? "";
    context.after(() => {
      process.env["PATH"] = path;
    });
    process.env["PATH"] = `${bin}:${path}`;
    assert.throws(() => beginTestRun(), /nft does not say what packet rules there are: the kernel is busy/);
  });

  it("finds control groups of containers", { skip: !isRoot }, async (context) => {
    const run = beginTestRun();
    const hierarchy = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"].find(
      (path) => existsSync(join(path, "cgroup.procs")) && !existsSync(join(path, "cgroup.type")),
    );
    const parent = join(hierarchy ?? "", "sockerless");
    const group = join(parent, `leak-${process.pid}`);
    const isNew = !existsSync(parent);
    try {
      mkdirSync(group, { recursive: true });
    } catch {
      context.skip("control groups cannot be made here");
      return;
    }
    context.after(() => {
      rmdirSync(group);
      if (isNew) {
        spawnSync("rmdir", [parent]); // A container may have come to use it.
      }
    });
    const leaks = await run.findLeaks(0);
    assert.ok(leaks.includes(`control group ${group}`), leaks.join("\n"));
    assert.ok(!leaks.includes(`control group ${parent}`));
  });

  it("finds what is left in the directory of running instances", { skip: !isRoot }, async (context) => {
    const run = beginTestRun();
    const directory = "/run/sockerless";
    const isNew = !existsSync(directory);
    const file = join(directory, `leak-${process.pid}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(file, "");
    context.after(() => {
      rmSync(file);
      if (isNew) {
        spawnSync("rmdir", [directory]);
      }
    });
    assert.ok((await run.findLeaks(0)).includes(`file ${file}`));
  });

  it("lets pass what was there before, what belongs to others, and what ends in time", async (context) => {
    const present = await sleeper(context, { argv0: "sockerless-agent", env: unmarked });
    const run = beginTestRun();
    const env = { ...process.env, ...run.env };
    const foreign = await sleeper(context, { argv0: "dockerd", env: unmarked });
    const ending = await sleeper(context, { env });
    setTimeout(() => ending.kill(), 300);
    const leaks = await run.findLeaks(60_000);
    for (const { pid } of [present, foreign, ending]) {
      assert.ok(!leaks.some((leak) => leak.startsWith(`process ${pid} `)), leaks.join("\n"));
    }
  });
});
