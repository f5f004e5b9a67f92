import assert from "node:assert/strict";
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
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
import { dirname, join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { ownTemporary } from "./leaks.ts";
import { root } from "./program.ts";
import { beginTestRun, type OwnedTestRun, type TestRun } from "./test-run.ts";

/** Interfaces, rules, groups and mounts are for root to make, in a machine that lets it. */
const isRoot = process.getuid?.() === 0;

const undone = new WeakMap<TestContext, (() => unknown)[]>();

/** Undoes something at the end of a test, what was done last first; hooks of a test run in the order of their calls. */
function atEnd(context: TestContext, undo: () => unknown): void {
  const known = undone.get(context);
  if (known !== undefined) {
    known.push(undo);
    return;
  }
  const undos = [undo];
  undone.set(context, undos);
  context.after(async () => {
    for (const each of undos.toReversed()) {
      await each();
    }
  });
}

async function sleeper(context: TestContext, options: SpawnOptions): Promise<ChildProcess> {
  const child = spawn("sleep", ["60"], { stdio: "ignore", ...options });
  const ended = once(child, "exit");
  atEnd(context, () => {
    child.kill("SIGKILL");
    return ended;
  });
  await once(child, "spawn");
  while (readFileSync(`/proc/${child.pid}/environ`).length === 0) {
    await nextTurn(); // The kernel shows it a moment after the program has begun.
  }
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
    atEnd(context, () => spawnSync(undo, undoArgs));
  }
  return made;
}

function temporary(context: TestContext, prefix: string, parent = tmpdir()): string {
  const directory = mkdtempSync(join(parent, prefix));
  atEnd(context, () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A run that ends with the test. */
async function begin(context: TestContext): Promise<OwnedTestRun> {
  const run = await beginTestRun();
  atEnd(context, () => run.end());
  return run;
}

/** As tests record what they make outside of their directories (test/support/made.ts). */
function record(run: TestRun, name: string): string {
  writeFileSync(join(run.directory, ".made", name), "");
  return name;
}

/** An instance of sockerless with a state directory: what its tag and its containers' interfaces begin with. */
function instance(stateDir: string): {
  readonly digest: string;
  readonly tag: string;
  readonly veth: string;
} {
  const digest = createHash("sha256").update(stateDir).digest("hex").slice(0, 12);
  return { digest, tag: digest.slice(0, 8), veth: `sk${digest.slice(0, 4)}` };
}

/** A group of version 1 or 2; undefined where none can be made. */
function makeCgroup(context: TestContext, name: string): string | undefined {
  const hierarchy = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"].find(
    (path) => existsSync(join(path, "cgroup.procs")) && !existsSync(join(path, "cgroup.type")),
  );
  const parent = join(hierarchy ?? "", "sockerless");
  const group = join(parent, name);
  const isNew = !existsSync(parent);
  try {
    mkdirSync(group, { recursive: true });
  } catch {
    return undefined;
  }
  atEnd(context, () => {
    rmdirSync(group);
    if (isNew) {
      spawnSync("rmdir", [parent]); // A container may have come to use it.
    }
  });
  return group;
}

describe("the leak check", () => {
  it("finds every process that the tests started, whatever it is", async (context) => {
    const run = await begin(context);
    const child = await sleeper(context, { env: { ...process.env, ...run.env } });
    const leaks = await run.findLeaks(0);
    assert.deepEqual(leaks, [`process ${child.pid} sleep`]);
  });

  it("finds descendants whose parents have gone", async (context) => {
    const run = await begin(context);
    const parent = spawn("sh", ["-c", "sleep 60 & echo $!"], {
      env: { ...process.env, ...run.env },
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [pid] = (await once(parent.stdout, "data")) as [Buffer];
    atEnd(context, () => process.kill(Number(pid), "SIGKILL"));
    const leaks = await run.findLeaks(0);
    assert.ok(
      leaks.some((leak) => leak.startsWith(`process ${Number(pid)} `)),
      leaks.join("\n"),
    );
  });

  it("finds a process that has lost its environment by a file of the run that it was started on", async (context) => {
    const run = await begin(context);
    const script = spawn("sh", ["-c", "read line", join(run.directory, "state/shim.json")], {
      env: unmarked,
      stdio: ["pipe", "ignore", "ignore"],
    });
    atEnd(context, () => script.kill("SIGKILL"));
    await once(script, "spawn");
    assert.deepEqual(await run.findLeaks(0), [`process ${script.pid} sh`]);
  });

  it("finds a process that has lost its environment by the group of its container", {
    skip: !isRoot,
  }, async (context) => {
    const run = await begin(context);
    const { digest, tag } = instance(join(run.directory, "state"));
    record(run, digest);
    const group = makeCgroup(context, `${tag}-${"0".repeat(64)}`);
    const child = await sleeper(context, { argv0: "sockerless-agent", env: unmarked });
    if (group === undefined) {
      context.skip("control groups cannot be made here");
      return;
    }
    writeFileSync(join(group, "cgroup.procs"), String(child.pid));
    const leaks = await run.findLeaks(0);
    assert.deepEqual(leaks, [`process ${child.pid} sockerless-agent`, `control group ${group}`]);
  });

  it("finds directories of tests, and mounts in them and of them", async (context) => {
    const run = await begin(context);
    const directory = temporary(context, "skl-leak-", run.directory);
    const elsewhere = temporary(context, "somebody-");
    const canMount = make(context, ["mount", "-t", "tmpfs", "tmpfs", directory], ["umount", directory]);
    if (canMount) {
      assert.ok(
        make(context, ["mount", "--bind", join(run.directory, ".made"), elsewhere], ["umount", elsewhere]),
      );
    }
    const leaks = await run.findLeaks(0);
    const mounts = canMount ? [`mount ${directory}`, `mount ${elsewhere}`] : [];
    assert.deepEqual(leaks, [...mounts, directory]);
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
    const run = await begin(context);
    const image = join(run.directory, "disk");
    writeFileSync(image, Buffer.alloc(1024 * 1024));
    const { status, stdout } = spawnSync("losetup", ["--find", "--show", image], { encoding: "utf8" });
    if (status !== 0) {
      context.skip("there are no loop devices here");
      return;
    }
    const device = stdout.trim();
    atEnd(context, () => spawnSync("losetup", ["--detach", device]));
    const leaks = await run.findLeaks(0);
    assert.deepEqual(leaks, [`loop device ${device.slice("/dev/".length)} ${image}`]);
  });

  it("finds interfaces that a test has named, and those of its instances", {
    skip: !isRoot,
  }, async (context) => {
    const run = await begin(context);
    const { digest, tag, veth } = instance(join(run.directory, "state"));
    record(run, digest);
    const named = record(run, `leak${process.pid}`);
    const bridge = `br-${String(process.pid).padStart(12, "0")}`;
    const leg = `${veth}${String(process.pid).padStart(9, "0")}`;
    for (const name of [named, bridge, leg]) {
      if (!make(context, ["ip", "link", "add", name, "type", "bridge"], ["ip", "link", "delete", name])) {
        context.skip("interfaces cannot be made here");
        return;
      }
    }
    spawnSync("ip", ["link", "set", bridge, "alias", `sockerless_${tag}`]);
    const leaks = await run.findLeaks(0);
    assert.deepEqual(
      new Set(leaks),
      new Set([bridge, leg, named].map((name) => `network interface ${name}`)),
    );
  });

  it("finds network namespaces that a test has named", { skip: !isRoot }, async (context) => {
    const run = await begin(context);
    const name = record(run, `leak-${process.pid}`);
    if (!make(context, ["ip", "netns", "add", name], ["ip", "netns", "delete", name])) {
      context.skip("network namespaces cannot be made here");
      return;
    }
    const leaks = await run.findLeaks(0);
    // The mount may be seen once more, below a directory that is mounted on itself.
    assert.deepEqual([...new Set(leaks)], [`mount /run/netns/${name}`, `network namespace ${name}`]);
  });

  it("finds tables of packet rules, and rules in the tables of others", {
    skip: !isRoot,
  }, async (context) => {
    const run = await begin(context);
    const { digest, tag } = instance(join(run.directory, "state"));
    record(run, digest);
    const table = `sockerless_${tag}`;
    const other = `somebody-${process.pid}`;
    if (!make(context, ["nft", `add table inet ${table}`], ["nft", `delete table inet ${table}`])) {
      context.skip("packet rules cannot be made here");
      return;
    }
    const rule = `iifname "br-0123456789ab" accept comment "${table} br-0123456789ab"`;
    const rules = `add table ip ${other}; add chain ip ${other} forward; add rule ip ${other} forward ${rule}`;
    assert.ok(make(context, ["nft", rules], ["nft", `delete table ip ${other}`]));
    const leaks = await run.findLeaks(0);
    assert.deepEqual(new Set(leaks), new Set([`rule of table ip ${other}: ${rule}`, `table inet ${table}`]));
  });

  it("does not take a failure to read packet rules for none", { skip: !isRoot }, async (context) => {
    const bin = temporary(context, "skl-nft-");
    writeFileSync(join(bin, "nft"), "#!/bin/sh\necho 'the kernel is busy' >&2\nexit 1\n");
    chmodSync(join(bin, "nft"), 0o755);
    const path = process.env["PATH"] ?? "";
    atEnd(context, () => {
      process.env["PATH"] = path;
    });
    process.env["PATH"] = `${bin}:${path}`;
    await assert.rejects(beginTestRun(), /nft does not say what packet rules there are: the kernel is busy/);
  });

  it("finds control groups of containers, and such as a test has named", {
    skip: !isRoot,
  }, async (context) => {
    const run = await begin(context);
    const { digest, tag } = instance(join(run.directory, "state"));
    record(run, digest);
    const groups = [`${tag}-${"1".repeat(64)}`, record(run, `leak-${process.pid}`)].map((name) =>
      makeCgroup(context, name),
    );
    if (groups.includes(undefined)) {
      context.skip("control groups cannot be made here");
      return;
    }
    assert.deepEqual(
      new Set(await run.findLeaks(0)),
      new Set(groups.map((group) => `control group ${group}`)),
    );
  });

  it("finds what is left in the directory of running instances", { skip: !isRoot }, async (context) => {
    const run = await begin(context);
    const { digest, tag } = instance(join(run.directory, "state"));
    record(run, digest);
    const parent = "/run/sockerless";
    const isNew = !existsSync(parent);
    if (isNew) {
      atEnd(context, () => spawnSync("rmdir", [parent]));
    }
    const files = [digest, tag].map((name) => join(parent, name, "host.lock"));
    for (const file of files) {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, "");
      atEnd(context, () => rmSync(dirname(file), { recursive: true }));
    }
    assert.deepEqual(new Set(await run.findLeaks(0)), new Set(files.map((file) => `file ${file}`)));
  });

  it("finds a leak of the tenth run as of the first, and none of another's", async (context) => {
    for (let number = 1; number <= 10; number += 1) {
      const run = await begin(context);
      const directory = temporary(context, "skl-leak-", run.directory);
      const child = await sleeper(context, { env: { ...process.env, ...run.env } });
      const group = isRoot ? makeCgroup(context, record(run, `leak-${process.pid}-${number}`)) : undefined;
      const expected = [
        `process ${child.pid} sleep`,
        ...(group === undefined ? [] : [`control group ${group}`]),
        directory,
      ];
      assert.deepEqual(await run.findLeaks(0), expected, `run ${number}`);
    }
  });

  it("takes nothing of strangers for the tests', whatever they start meanwhile", async (context) => {
    const run = await begin(context);
    const other = await begin(context); // of the same checkout
    const { digest, tag, veth } = instance(`/var/lib/stranger-${process.pid}`);
    await sleeper(context, { argv0: "sockerless-agent", env: unmarked });
    await sleeper(context, { argv0: "dockerd", env: unmarked });
    await sleeper(context, { argv0: "sockerless-agent", env: { ...process.env, ...other.env } });
    record(other, digest);
    temporary(context, "skl-leak-", other.directory);
    temporary(context, "skl-");
    if (isRoot) {
      const [bridge, leg, name] = [
        `br-${"e".repeat(12)}`,
        `${veth}${"f".repeat(9)}`,
        `stranger-${process.pid}`,
      ];
      make(context, ["ip", "link", "add", bridge, "type", "bridge"], ["ip", "link", "delete", bridge]);
      make(context, ["ip", "link", "add", leg, "type", "bridge"], ["ip", "link", "delete", leg]);
      spawnSync("ip", ["link", "set", bridge, "alias", `sockerless_${tag}`]);
      make(context, ["ip", "netns", "add", name], ["ip", "netns", "delete", name]);
      const table = `inet sockerless_${tag}`;
      make(context, ["nft", `add table ${table}`], ["nft", `delete table ${table}`]);
      makeCgroup(context, `${tag}-${"2".repeat(64)}`);
      makeCgroup(context, `${"3".repeat(64)}`);
    }
    assert.deepEqual(await run.findLeaks(0), []);
    assert.ok((await other.findLeaks(0)).length >= (isRoot ? 5 : 2));
  });

  it("waits for what ends in time", async (context) => {
    const run = await begin(context);
    const ending = await sleeper(context, { env: { ...process.env, ...run.env } });
    setTimeout(() => ending.kill(), 300);
    assert.deepEqual(await run.findLeaks(60_000), []);
  });

  it("gives a checkout the same short directory, and another where that is taken", async (context) => {
    const run = await begin(context);
    const beside = await begin(context);
    assert.notEqual(beside.directory, run.directory);
    assert.ok(beside.directory.length < tmpdir().length + "/skl-0000-000".length);
    await run.end();
    assert.equal((await begin(context)).directory, run.directory);
  });
});
