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
  /** Lives it: what becomes of its commands is all the same once the backend is killed. */
  live(): Promise<void>;
  /** Waits until the cloud has what it had before. */
  settle(): Promise<void>;
}

/** Kills the backend of a daemon, which has to be started with {@link env}. */
export class KillSweep implements AsyncDisposable {
  readonly env: Readonly<Record<string, string>>;
  readonly #directory: string;
  readonly #options: KillSweepOptions;

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
    await rm(this.#reached, { force: true });
    await live();
    await settle();
    return (await readFile(this.#reached, "utf8")).trimEnd().split("\n");
  }

  /** Fails where no life has come to what some life has to. */
  assertLeast(...lives: readonly (readonly string[])[]): void {
    const missed = this.#options.least.filter((step) => !lives.some((recorded) => recorded.includes(step)));
    assert.deepEqual(missed, [], "steps that a life does not come to any more");
  }

  /**
   * The steps of a record to be killed at: each for the first time and the last, those that only ask for the first, and
   * each commit.
   */
  stepsOf(recorded: readonly string[]): string[] {
    return [...new Set(recorded)].flatMap((step) => {
      const count = recorded.filter((other) => other === step).length;
      if (step.startsWith("state.commit.")) {
        return Array.from({ length: count }, (_, index) => `${step}:${index + 1}`);
      }
      return count === 1 || this.#options.asks.test(step) ? [step] : [step, `${step}:${count}`];
    });
  }

  /** Lives once, with a kill at a step. */
  async kill(t: TestContext, daemon: Daemon, step: string, { live, settle }: Life): Promise<void> {
    await startAnew(daemon);
    await writeFile(this.#armed, step);
    await live();
    const isTaken = !existsSync(this.#armed);
    await rm(this.#armed, { force: true });
    await settle();
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

/** Steps before and after calls. */
export function beforeAndAfter(...calls: readonly string[]): string[] {
  return calls.flatMap((call) => [`${call}.before`, `${call}.after`]);
}

/** With one that remembers nothing of an earlier life, each comes to the same steps. */
async function startAnew(daemon: Daemon): Promise<void> {
  await daemon.shutDown();
  await daemon.launch();
}
