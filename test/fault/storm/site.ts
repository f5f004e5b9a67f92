/** The daemon that the storm goes over, clients under way on it, and all that was found wrong. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import type { CommandResult } from "../../support/command.ts";
import type { Daemon } from "../../support/daemon.ts";
import { EngineApi } from "../../support/engine-api.ts";
import { untilTrue } from "../../support/until.ts";
import { type Expected, type Told, violationOf } from "./verdict.ts";

/** How long clients may take to end once nothing is killed any more. */
const endLimitMs = 120_000;

/** Counts of one kind of work, by how it was told. */
interface Tally {
  well: number;
  failed: number;
}

/** A client that has not ended. */
interface UnderWay {
  readonly what: string;
  readonly abort: AbortController;
}

/** One round of the storm. */
export class Site {
  readonly daemon: Daemon;
  readonly api: EngineApi;
  /** Directory that containers see as `/marks`: a file for each command, with a line for each time that it began. */
  readonly marks: string;
  readonly violations: string[] = [];
  readonly tallies = new Map<string, Tally>();
  /** Containers with a restart policy that a client was told of as started. */
  readonly policies = new Map<string, string>();
  readonly #mostRuns = new Map<string, number>();
  readonly #clients = new Set<UnderWay>();

  constructor(daemon: Daemon, round: number) {
    this.daemon = daemon;
    this.api = new EngineApi(() => daemon.socket);
    this.marks = join(daemon.directory, `marks-${round}`);
    mkdirSync(this.marks);
  }

  /** Runs a docker CLI, which has to end by itself. */
  docker(...args: string[]): Promise<CommandResult> {
    return this.client(`docker ${args.join(" ")}`, (signal) => this.daemon.dockerWith({ signal }, ...args));
  }

  /** Runs any client, which has to end by itself. */
  async client<T>(what: string, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const abort = new AbortController();
    const underWay = { what, abort };
    this.#clients.add(underWay);
    try {
      return await run(abort.signal);
    } finally {
      this.#clients.delete(underWay);
    }
  }

  /** Waits until somebody answers, as its clients have little to do meanwhile. */
  async serves(stop: AbortSignal): Promise<void> {
    await untilTrue(async () => {
      try {
        return stop.aborted || (await this.api.call("GET", "/_ping")).status === 200;
      } catch {
        return false;
      }
    });
  }

  /** Notes what a client was told of a command. */
  judge(kind: string, what: string, told: Told, expected: Expected): void {
    this.count(kind, told.code === expected.code);
    const violation = violationOf(told, expected);
    if (violation !== undefined) {
      this.violate(`${kind} ${what} ${violation}`);
    }
  }

  count(kind: string, isWell: boolean): void {
    const tally = this.tallies.get(kind) ?? { well: 0, failed: 0 };
    this.tallies.set(kind, tally);
    tally[isWell ? "well" : "failed"]++;
  }

  violate(violation: string): void {
    this.violations.push(`${new Date().toISOString()} ${violation}`);
  }

  /** A command may begin so often; one that is not named here never begins. */
  mayRun(token: string, times: number): void {
    this.#mostRuns.set(token, times);
  }

  /** Times that a command has begun. */
  runsOf(token: string): number {
    const file = join(this.marks, token);
    return existsSync(file) ? readFileSync(file, "utf8").split("\n").length - 1 : 0;
  }

  /** Notes commands that ran more often than somebody asked for. */
  judgeRuns(): void {
    for (const [token, most] of this.#mostRuns) {
      const runs = this.runsOf(token);
      if (runs > most) {
        this.violate(`${token} ran ${runs} times, and was to run ${most} times`);
      }
    }
  }

  /** Waits until clients have done what they do, and notes those that do not end. */
  async clientsEnd(lanes: Promise<unknown>): Promise<void> {
    const limit = new AbortController();
    const late = delay(endLimitMs, undefined, { signal: limit.signal }).catch(() => {});
    await Promise.race([lanes, late]);
    limit.abort();
    for (const { what, abort } of this.#clients) {
      this.violate(`never ends: ${what}`);
      abort.abort();
    }
  }
}
