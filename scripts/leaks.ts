/**
 * Leaks of tests: what they have made and left. It is known by what made it, never by what the machine has more than
 * before, so that neither another daemon nor another clone's run is taken for it: processes by a variable of their
 * environment, files by the run's directory for temporary ones, all else by names that the tests have recorded in that
 * directory (test/support/made.ts, agent/host/process_test.go).
 */
import { spawnSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { root } from "./program.ts";

/** Deleting namespaces and mounts happens behind the answers that tests wait for. */
const settleLimitMs = 60_000;

/**
 * Variable in the environment of all that tests start but containers, which have an environment of their own.
 */
const runVariable = "SKL_TEST_RUN";

/** Directory, in that of the run, with a file for each name that a test has given to something outside of it. */
const recordName = ".made";

/** Tests that begin, and what they leave behind. */
export interface TestRun {
  /** Directory of their temporary files. */
  readonly directory: string;
  /**
   * Variables to add to the environment of their processes: no other run has the same, though clones are
   * tested side by side.
   */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Finds one line for each thing that the tests have made and that stays, within so many milliseconds. If there is
   * none the run is over, and its directory is removed.
   *
   * @throws where the machine's packet rules cannot be read, though they could be changed
   */
  findLeaks(limitMs?: number): Promise<string[]>;
}

/**
 * Makes the directory of a run, before any test.
 *
 * @throws where the machine's packet rules cannot be read, though they could be changed
 */
export function beginTestRun(): TestRun {
  packetRules();
  const id = randomUUID();
  const directory = makeRunDirectory();
  mkdirSync(join(directory, recordName));
  for (const each of [directory, join(directory, recordName)]) {
    chmodSync(each, 0o1777); // tests run as other users, too
  }
  return {
    directory,
    env: { [runVariable]: id, TMPDIR: directory },
    findLeaks: (limitMs = settleLimitMs) => findLeaks(id, directory, limitMs),
  };
}

/**
 * Makes the first that is free of the checkout's own directories. It is short, for sockets in it, and mostly the same:
 * Go runs a test again where it is not.
 */
function makeRunDirectory(): string {
  const checkout = createHash("sha256").update(root).digest("hex").slice(0, 4);
  for (let number = 0; ; number += 1) {
    const directory = join(realpathSync(tmpdir()), `skl-${checkout}-${number}`);
    try {
      mkdirSync(directory);
      return directory;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") {
        throw error;
      }
    }
  }
}

async function findLeaks(run: string, directory: string, limitMs: number): Promise<string[]> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const leaked = takeInventory(run, directory);
    if (leaked.length === 0) {
      rmSync(directory, { recursive: true, force: true });
    }
    if (leaked.length === 0 || Date.now() > deadline) {
      return leaked;
    }
    await delay(200);
  }
}

function takeInventory(run: string, directory: string): string[] {
  const isNamed = recordedNames(join(directory, recordName));
  const isOurs: Judge = (text) => text.includes(`${directory}/`) || isNamed(text);
  return [
    ...processes(run, isOurs),
    ...loopDevices().filter(isOurs),
    ...mounts(isOurs),
    ...namesIn("/run/netns")
      .map((name) => `network namespace ${name}`)
      .filter(isOurs),
    ...interfaces(isOurs),
    ...firewall(isOurs),
    ...controlGroups(isOurs),
    ...filesBelow("/run/sockerless").filter(isOurs),
    ...temporaryDirectories(directory),
  ];
}

/** True for a text that names something of the run. */
type Judge = (text: string) => boolean;

/** Looks for the names that the tests have recorded, as whole words. */
function recordedNames(record: string): Judge {
  const words = namesIn(record).flatMap((name) =>
    isInstance.test(name) ? namesOf(name) : [RegExp.escape(name)],
  );
  if (words.length === 0) {
    return () => false;
  }
  const named = new RegExp(`(?<![\\da-zA-Z])(?:${words.join("|")})(?![\\da-zA-Z])`);
  return (text) => named.test(text);
}

/** The digest by which an instance of sockerless is recorded: that of its state directory's path. */
const isInstance = /^[\da-f]{12}$/;

/** Patterns of what an instance gives names to: its run directory, all that has its tag, and its containers' interfaces. */
function namesOf(instance: string): string[] {
  return [instance, instance.slice(0, 8), `sk${instance.slice(0, 4)}[\\da-f]{9}`];
}

/** Processes of the run; one in a container has lost the variable, its group or its command line has a name of the run. */
function processes(run: string, isOurs: Judge): string[] {
  const found: string[] = [];
  for (const pid of namesIn("/proc").filter((name) => /^\d+$/.test(name))) {
    const commandLine = read(`/proc/${pid}/cmdline`);
    const isZombie = /^State:\s+Z/m.test(read(`/proc/${pid}/status`));
    const runOfIt = runOf(pid);
    const isOfRun =
      runOfIt === undefined ? isOurs(`${commandLine}\0${read(`/proc/${pid}/cgroup`)}`) : runOfIt === run;
    if (!isZombie && isOfRun) {
      found.push(`process ${pid} ${basename(commandLine.split("\0")[0] ?? "")}`);
    }
  }
  return found;
}

/** ID of the tests' run that started a process; undefined: none did, or the process is another user's. */
function runOf(pid: string): string | undefined {
  const entry = read(`/proc/${pid}/environ`)
    .split("\0")
    .find((each) => each.startsWith(`${runVariable}=`));
  return entry?.slice(runVariable.length + 1);
}

/** Names of tests' directories in the temporary directory; tests in Go name theirs after themselves. */
export const ownTemporary = new RegExp(
  `^(?:Test[A-Z]|(?:${[
    ...["agent", "authority", "botocore", "bulk-stream", "dockerd", "engine", "machine"],
    ...["publish", "raw-agent", "record-docker-cli", "skl", "sockerless", "start", "state"],
  ].join("|")})-)`,
);

/** Mounts at a path of the run, or of one of its files at any other. */
function mounts(isOurs: Judge): string[] {
  return read("/proc/self/mountinfo")
    .split("\n")
    .filter(isOurs)
    .map((line) => `mount ${line.split(" ")[4] ?? ""}`);
}

/** Interfaces by their names, and bridges by their aliases. */
function interfaces(isOurs: Judge): string[] {
  return namesIn("/sys/class/net")
    .filter((name) => isOurs(`${name} ${read(`/sys/class/net/${name}/ifalias`)}`))
    .map((name) => `network interface ${name}`);
}

function loopDevices(): string[] {
  return namesIn("/sys/block").flatMap((name) => {
    const file = read(`/sys/block/${name}/loop/backing_file`).trim();
    return file === "" ? [] : [`loop device ${name} ${file}`];
  });
}

/**
 * Tables of ours, and what we put into the chains of others. That the kernel forwards packets is not looked at: the
 * product says that it stays so.
 */
function firewall(isOurs: Judge): string[] {
  const found: string[] = [];
  let table = "";
  for (const line of packetRules().split("\n")) {
    if (line.startsWith("table ")) {
      table = line.replace(" {", "");
      if (isOurs(table)) {
        found.push(table);
      }
    } else if (!isOurs(table) && isOurs(line)) {
      found.push(`rule of ${table}: ${line.trim()}`);
    }
  }
  return found;
}

/** Rules of all tables as text. @throws Error: they cannot be read, though they could be changed */
function packetRules(): string {
  if (!mayChangeNetwork()) {
    return "";
  }
  const { error, status, stdout, stderr } = spawnSync("nft", ["--stateless", "list", "ruleset"], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error !== undefined && "code" in error && error.code === "ENOENT") {
    return ""; // Without nft there are no tables of ours.
  }
  if (error !== undefined || status !== 0) {
    throw new Error(`nft does not say what packet rules there are: ${error?.message ?? stderr}`);
  }
  return stdout;
}

/** True if this process has CAP_NET_ADMIN. */
function mayChangeNetwork(): boolean {
  const effective = /^CapEff:\s+([\da-f]+)$/m.exec(read("/proc/self/status"))?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> 12n) & 1n) === 1n;
}

/** Lists left-over directories of tests: what tests keep for the next run is in the checkout, and programs have caches. */
function temporaryDirectories(directory: string): string[] {
  return namesIn(directory)
    .filter((name) => ownTemporary.test(name))
    .map((name) => join(directory, name));
}

function controlGroups(isOurs: Judge): string[] {
  const found: string[] = [];
  const visit = (directory: string, depth: number): void => {
    for (const entry of entriesIn(directory).filter((each) => each.isDirectory())) {
      const path = join(directory, entry.name);
      if (isOurs(path)) {
        found.push(`control group ${path}`);
      }
      if (depth > 0) {
        visit(path, depth - 1);
      }
    }
  };
  visit("/sys/fs/cgroup", 3);
  return found;
}

function filesBelow(directory: string): string[] {
  return entriesIn(directory).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [`file ${path}`];
  });
}

function namesIn(directory: string): string[] {
  return entriesIn(directory).map((entry) => entry.name);
}

function entriesIn(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return []; // It is not there, or has just gone.
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
