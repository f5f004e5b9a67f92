/** kill -9 of a backend at each step that a life of containers comes to. The steps are recorded, and are no list. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

import type { Daemon } from "./daemon.ts";
import { testBuildEnv } from "./test-build.ts";

/** Settings of a {@link KillSweep}. */
export interface KillSweepOptions {
  /** Steps that some life has to come to, and to be killed at; others may be missed by a life that was killed. */
  readonly least: readonly string[];
  /** Steps that only ask: they may be repeated, and a kill at the first is enough. */
  readonly asks: RegExp;
}

/** A life of containers, up to where nothing of them is left. */
export interface Life {
  /**
   * Lives it: what becomes of its commands is all the same once the backend is killed.
   *
   * @param begin has to be called where the life's steps begin that are recorded and killed at
   */
  live(begin: () => Promise<void>): Promise<void>;
  /** Waits until the cloud has what it had before. */
  settle(): Promise<void>;
}

/** Kills of one daemon: its backend is started again later each time. */
const killsEach = 4;

/** Kills the backend of a daemon, which has to be started with {@link env}. */
export class KillSweep implements AsyncDisposable {
  readonly env: Readonly<Record<string, string>>;
  readonly #directory: string;
  readonly #options: KillSweepOptions;
  #kills = 0;

  private constructor(directory: string, env: Readonly<Record<string, string>>, options: KillSweepOptions) {
    this.#directory = directory;
    this.env = env;
    this.#options = options;
  }

  static async prepare(options: KillSweepOptions): Promise<KillSweep> {
    const directory = await mkdtemp(join(tmpdir(), "skl-sweep-"));
    const env = await testBuildEnv(join(directory, "step"), join(directory, "reached"));
    return new KillSweep(directory, env, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true });
  }

  /** The steps that a life comes to when nothing kills the backend, as often as it does. */
  async record(daemon: Daemon, { live, settle }: Life): Promise<string[]> {
    await startAnew(daemon);
    await live(() => rm(this.#reached, { force: true }));
    await settle();
    const recorded = (await readFile(this.#reached, "utf8")).trimEnd().split("\n");
    return recorded.filter((step) => !ofVerb.test(step));
  }

  /** Fails where no life has come to what some life has to. */
  assertLeast(...lives: readonly (readonly string[])[]): void {
    const missed = this.#options.least.filter((step) => !lives.some((recorded) => recorded.includes(step)));
    assert.deepEqual(missed, [], "steps that a life does not come to any more");
  }

  /**
   * The steps of each life's record to be killed at, as `state.commit.after:2` names the second of its kind. Lives do the
   * same again and again: each kind of step is taken in each life, and beside that, of steps that come after the same one,
   * and of commits that come as late after that, the first of all lives. Steps that only ask are taken once in each life.
   * Before a commit all is as after the step before it, so that one is enough. With SOCKERLESS_EVERY_STEP=1 all are taken
   * but those that ask again.
   */
  stepsOf(records: readonly (readonly string[])[]): string[][] {
    const isEvery = process.env["SOCKERLESS_EVERY_STEP"] === "1";
    const places = new Set<string>();
    return records.map((recorded) => {
      const counts = new Map<string, number>();
      let previous = "";
      let commits = 0;
      return recorded.flatMap((step) => {
        const count = (counts.get(step) ?? 0) + 1;
        counts.set(step, count);
        if (this.#options.asks.test(step)) {
          return count === 1 ? [step] : [];
        }
        const isCommit = step.startsWith("state.commit.");
        commits = isCommit ? commits + 1 : 0;
        const place = step === "state.commit.before" ? step : `${previous} ${commits} ${step}`;
        previous = isCommit ? previous : step;
        const isNew = !places.has(place);
        places.add(place);
        return count === 1 || isNew || isEvery ? [count === 1 ? step : `${step}:${count}`] : [];
      });
    });
  }

  /**
   * Lives once, with a kill at a step. The backend is a new one: since the kill before, or since a start of the daemon. What
   * it has asked for in the rest of that life it may not ask for again.
   */
  async kill(t: TestContext, daemon: Daemon, step: string, { live, settle }: Life): Promise<void> {
    if (this.#kills++ % killsEach === 0 || this.#options.asks.test(step)) {
      await startAnew(daemon);
    }
    await live(() => writeFile(this.#armed, step));
    await settle(); // It records steps as well.
    const isTaken = !existsSync(this.#armed);
    await rm(this.#armed, { force: true });
    if (!isTaken) {
      this.#kills = 0; // This backend remembers the life.
    }
    assert.ok(isTaken || !this.#options.least.includes(step), "the step was taken");
    if (!isTaken) {
      t.skip("this life did not come to it, or not as often");
    }
  }

  get #armed(): string {
    return join(this.#directory, "step");
  }

  get #reached(): string {
    return join(this.#directory, "reached");
  }
}

/** Steps of the engine's verbs, which lie beside calls and commits: a kill there is one at those. */
export const ofVerb = /^(create|exec|remove|start|stop)\./;

/** Steps before and after calls. */
export function beforeAndAfter(...calls: readonly string[]): string[] {
  return calls.flatMap((call) => [`${call}.before`, `${call}.after`]);
}

/** With one that remembers nothing of an earlier life, each comes to the same steps. */
async function startAnew(daemon: Daemon): Promise<void> {
  await daemon.shutDown();
  await daemon.launch();
}
