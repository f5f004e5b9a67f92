/** Tests that a run of tests leaves nothing, whatever ends it. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { findLeftovers } from "./leaks.ts";
import { root } from "./program.ts";
import { beginTestRun, type KeptRun } from "./test-run.ts";

const temporary = mkdtempSync(join(tmpdir(), "skl-"));
process.env["TMPDIR"] = temporary; // Other tests have runs of this checkout beside these.
after(() => rmSync(temporary, { recursive: true, force: true }));

/**
 * A run whose tests never end, in a process of its own. They have started what detaches itself, and what has lost its
 * environment and is paused; as root they have mounted, and made an interface, a namespace with a name, packet rules and
 * a control group. It prints its directory once all is there.
 */
const runner = `
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { runTests } from ${JSON.stringify(join(root, "scripts/test-run.ts"))};

await runTests(async ({ directory, env }) => {
  const name = "run" + process.pid;
  const make = (program, ...args) => spawnSync(program, args, { stdio: "ignore" });
  writeFileSync(directory + "/.made/" + name, "");
  spawn("sleep", ["1000"], { env: { ...process.env, ...env }, stdio: "ignore", detached: true });
  mkdirSync(directory + "/skl-files/below", { recursive: true });
  const lost = spawn("/bin/sleep", ["1000"], { argv0: directory + "/shim", env: {}, stdio: "ignore", detached: true });
  if (process.getuid() === 0) {
    make("mount", "-t", "tmpfs", "tmpfs", directory + "/skl-files/below");
    make("ip", "netns", "add", name);
    make("ip", "link", "add", name, "type", "bridge");
    make("nft", "add table inet " + name + "; add chain inet " + name + " forward");
    const hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/freezer"];
    const hierarchy = hierarchies.find((path) => existsSync(path + "/cgroup.procs"));
    const group = hierarchy + "/" + name + "/child";
    const [file, state] = hierarchy === hierarchies[0] ? ["cgroup.freeze", "1"] : ["freezer.state", "FROZEN"];
    try {
      mkdirSync(group, { recursive: true });
      writeFileSync(group + "/cgroup.procs", String(lost.pid));
      writeFileSync(group + "/" + file, state);
    } catch {} // None can be made here.
  }
  console.log(directory);
  await new Promise(() => setInterval(() => {}, 1000));
});
`;

/** A run with tests under way. */
interface Begun {
  readonly child: ChildProcess;
  readonly directory: string;
  /** Name that its tests have recorded. */
  readonly name: string;
  readonly run: KeptRun;
}

async function begin(program: string, ...args: readonly string[]): Promise<Begun> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const { value: directory = "" } = await createInterface(child.stdout)[Symbol.asyncIterator]().next();
  const run = JSON.parse(readFileSync(join(directory, ".keeper"), "utf8")) as KeptRun;
  const [name = ""] = readdirSync(join(directory, ".made"));
  assert.ok(findLeftovers(run.id, directory).length >= 3);
  return { child, directory, name, run };
}

const node = [process.execPath, "--input-type=module", "--eval", runner] as const;

/** Waits until a run is over: the time limit of the test ends it. */
async function ended({ directory }: Begun): Promise<void> {
  while (existsSync(directory)) {
    await delay(20);
  }
}

/** Looks once more for all that the run's tests have named. */
function assertNothingIsLeft({ directory, name, run }: Begun): void {
  const record = join(directory, ".made");
  mkdirSync(record, { recursive: true });
  writeFileSync(join(record, name), "");
  const left = findLeftovers(run.id, directory).map(({ text }) => text);
  rmSync(directory, { recursive: true });
  assert.deepEqual(left, []);
}

describe("a run of tests leaves nothing", () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    it(`once its runner has ended by ${signal}`, async () => {
      const begun = await begin(...node);
      const exited = once(begun.child, "exit");
      begun.child.kill(signal);
      const [code] = await exited;
      assert.ok(code !== 0, String(code));
      assert.ok(!existsSync(begun.directory));
      assertNothingIsLeft(begun);
    });
  }

  it("behind a runner that was killed", async () => {
    const begun = await begin(...node);
    begun.child.kill("SIGKILL");
    await ended(begun);
    assertNothingIsLeft(begun);
  });

  it("behind a runner whose parent was killed", async () => {
    const begun = await begin("sh", "-c", '"$@" & wait', "sh", ...node);
    begun.child.kill("SIGKILL");
    await ended(begun);
    assertNothingIsLeft(begun);
  });

  it("behind an npm that was killed: no shell stands between it and what it runs", () => {
    const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      readonly scripts: Readonly<Record<string, string>>;
    };
    for (const name of ["test", "check", "test:integration", "soak"]) {
      assert.match(scripts[name] ?? "", /^exec node /, name);
    }
  });

  it("once the next run has begun, where its keeper was killed too", async () => {
    const begun = await begin(...node);
    process.kill(begun.run.keeper, "SIGKILL");
    begun.child.kill("SIGKILL");
    await once(begun.child, "exit");
    assert.ok(findLeftovers(begun.run.id, begun.directory).length > 0);
    const next = await beginTestRun();
    await next.end();
    assertNothingIsLeft(begun);
  });

  it("with another run in it, which is ended by its own keeper first", async () => {
    const around = await beginTestRun();
    const begun = await begin(
      "env",
      `TMPDIR=${around.directory}`,
      `SKL_TEST_RUN=${around.env["SKL_TEST_RUN"]}`,
      ...node,
    );
    await around.end();
    assert.ok(!existsSync(around.directory));
    assertNothingIsLeft(begun);
    rmSync(around.directory, { recursive: true });
  });

  it("and lets another of the same checkout alone", async () => {
    const [begun, other] = await Promise.all([begin(...node), begin(...node)]);
    const before = findLeftovers(other.run.id, other.directory).map(({ text }) => text);
    begun.child.kill("SIGKILL");
    await ended(begun);
    assert.deepEqual(
      findLeftovers(other.run.id, other.directory).map(({ text }) => text),
      before,
    );
    other.child.kill("SIGTERM");
    await ended(other);
    assertNothingIsLeft(other);
  });
});
