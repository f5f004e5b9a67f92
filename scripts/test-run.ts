/**
 * Runs of tests that leave nothing, however they end. A keeper, in a session of its own, waits for the end of the runner
 * and removes what is there then: after an interruption, a kill, or a terminal that was closed. Where the keeper
 * was lost too the next run of the checkout does its work.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { findLeftovers, packetRules, recordName, runVariable } from "./leaks.ts";
import { root } from "./program.ts";

/** Deleting namespaces and mounts happens behind the answers that tests wait for. */
const settleLimitMs = 180_000;

/** File, in the directory of a run, that says whose it is. */
const keeperFile = ".keeper";

/** A run's identity, and that of the process that keeps it. */
export interface KeptRun {
  /** Value of {@link runVariable} in the environment of its processes. */
  readonly id: string;
  /** Process ID of the keeper. */
  readonly keeper: number;
  /** Time at which the keeper started, as the kernel tells it: IDs are used again. */
  readonly keptSince: string;
}

/** Tests that begin, and what they leave behind. */
export interface TestRun {
  /** Directory of their temporary files. */
  readonly directory: string;
  /**
   * Variables to add to the environment of their processes: no other run has the same, though clones are
   * tested side by side.
   */
  readonly env: Readonly<Record<string, string>>;
  /** Aborted by an interruption: then no more tests begin. */
  readonly interrupted: AbortSignal;
}

/** A run whose owner has to end it. */
export interface OwnedTestRun extends TestRun, AsyncDisposable {
  /**
   * Finds one line for each thing that the tests have made and that stays, within so many milliseconds.
   *
   * @throws where the machine's packet rules cannot be read, though they could be changed
   */
  findLeaks(limitMs?: number): Promise<string[]>;
  /** Ends the run: all that the tests have made and not removed goes, with its directory. */
  end(): Promise<void>;
}

/**
 * Runs tests. An interruption ends this process, too.
 *
 * @returns true if they succeed and leave nothing behind
 * @throws where the machine's packet rules cannot be read, though they could be changed
 */
export async function runTests(tests: (run: TestRun) => Promise<boolean>): Promise<boolean> {
  const interruption = new AbortController();
  await using run = await beginTestRun(interruption.signal);
  const interrupt = async (signal: NodeJS.Signals): Promise<void> => {
    interruption.abort();
    await run.end();
    process.exit(128 + constants.signals[signal]);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, interrupt);
  }
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || void interrupt("SIGHUP"), 1000).unref();
  const isWell = await tests(run);
  const leaks = interruption.signal.aborted ? [] : await run.findLeaks();
  if (leaks.length > 0) {
    console.error(`the tests left behind:\n${leaks.map((leak) => `  ${leak}`).join("\n")}`);
  }
  return isWell && leaks.length === 0;
}

/**
 * Begins a run, before any test, and removes what is left of runs of this checkout that nobody keeps.
 *
 * @throws where the machine's packet rules cannot be read, though they could be changed
 */
export async function beginTestRun(interrupted = new AbortController().signal): Promise<OwnedTestRun> {
  packetRules();
  const keeper = spawn(process.execPath, [join(import.meta.dirname, "keep-test-run.ts")], {
    stdio: ["pipe", "ignore", "inherit"],
    detached: true, // Neither a signal of the terminal nor its end is the keeper's.
    env: { PATH: process.env["PATH"] }, // It is no process of a run around this one, which would end it.
  });
  const pid = keeper.pid ?? 0;
  const run: KeptRun = { id: randomUUID(), keeper: pid, keptSince: startOf(pid) };
  const directory = await claimDirectory(run);
  keeper.stdin?.write(directory);
  keeper.unref();
  const end = (): Promise<void> => dismiss(keeper);
  return {
    directory,
    env: { [runVariable]: run.id, TMPDIR: directory },
    interrupted,
    findLeaks: (limitMs = settleLimitMs) => findLeaks(run.id, directory, limitMs),
    end,
    [Symbol.asyncDispose]: end,
  };
}

/** Tells a keeper of the end, and waits for its own. */
async function dismiss(keeper: ChildProcess): Promise<void> {
  if (keeper.exitCode === null && keeper.signalCode === null) {
    keeper.ref();
    const ended = once(keeper, "exit");
    keeper.stdin?.end();
    await ended;
  }
}

/**
 * Claims the first that is free of the checkout's own directories. It is short, for sockets in it, and mostly the same:
 * Go runs a test again where it is not.
 */
async function claimDirectory(run: KeptRun): Promise<string> {
  const parent = realpathSync(tmpdir());
  const name = `skl-${createHash("sha256").update(root).digest("hex").slice(0, 4)}-`;
  const fresh = mkdtempSync(join(parent, `${name}new-`));
  mkdirSync(join(fresh, recordName));
  for (const each of [fresh, join(fresh, recordName)]) {
    chmodSync(each, 0o1777); // tests run as other users, too
  }
  writeFileSync(join(fresh, keeperFile), JSON.stringify(run));
  await removeAbandoned(parent, name);
  for (let number = 0; ; number += 1) {
    const directory = join(parent, `${name}${number}`);
    try {
      renameSync(fresh, directory); // It has its keeper when it is seen first.
      return directory;
    } catch (error) {
      if (!["ENOTEMPTY", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) {
        throw error;
      }
    }
  }
}

/** Ends the runs in a directory that nobody keeps. @returns true while there are others */
async function removeAbandoned(parent: string, prefix: string): Promise<boolean> {
  let isKept = false;
  for (const directory of globSync(join(parent, `${prefix}*`))) {
    const run = runIn(directory);
    if (run !== undefined && run.keptSince === startOf(run.keeper)) {
      isKept = true;
    } else if (run !== undefined) {
      await removeRun(directory);
    }
  }
  return isKept;
}

/**
 * Ends and deletes all that the tests of a run have made, and runs in it.
 *
 * @returns one line for each thing that stays
 */
export async function removeRun(directory: string): Promise<string[]> {
  const run = runIn(directory);
  const deadline = Date.now() + settleLimitMs;
  for (;;) {
    if (run === undefined || runIn(directory)?.id !== run.id) {
      return []; // It is over, and another may have the directory.
    }
    const left = findLeftovers(run.id, directory);
    const holding = left.filter(({ holds }) => holds);
    const isHeld = holding.length > 0 || (await removeAbandoned(directory, "skl-"));
    for (const { remove } of isHeld ? holding : left) {
      remove();
    }
    if (left.length === 0) {
      rmSync(directory, { recursive: true, force: true });
    }
    if (left.length === 0 || Date.now() > deadline) {
      return left.map(({ text }) => text);
    }
    await delay(50);
  }
}

/** Reads whose a directory is; undefined: no run's. */
function runIn(directory: string): KeptRun | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, keeperFile), "utf8")) as KeptRun;
  } catch {
    return undefined;
  }
}

/** Time at which a process started, in ticks of the kernel's clock; empty: there is none, or it has ended. */
function startOf(pid: number): string {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return fields[0] === "Z" ? "" : (fields[19] ?? "");
  } catch {
    return "";
  }
}

async function findLeaks(run: string, directory: string, limitMs: number): Promise<string[]> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const leaked = findLeftovers(run, directory);
    if (leaked.length === 0 || Date.now() > deadline) {
      return leaked.map(({ text }) => text);
    }
    await delay(200);
  }
}
