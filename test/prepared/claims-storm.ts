/**
 * Many claims beside kill -9 of the backend: no task serves two containers, none is left. Each cloud's own test calls the
 * suite, by `npm run soak -- claims` alone. SOCKERLESS_STORM_RUNS=… makes so many, SOCKERLESS_STORM_SEED=… kills at the steps of a
 * seed again. The daemon's log of one that fails is kept in build.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { readPool } from "../../src/cli/pool.ts";
import { callApi } from "../support/call-api.ts";
import { checkout } from "../support/daemon.ts";
import { Random } from "../support/random.ts";
import { runSockerless } from "../support/run-sockerless.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilTrue } from "../support/until.ts";
import type { PoolCloud, PoolCloudKind } from "./pool-cloud.ts";

const seed = process.env["SOCKERLESS_STORM_SEED"] ?? randomUUID().slice(0, 8);
const claims = Number(process.env["SOCKERLESS_STORM_RUNS"] ?? 1_000);
const clients = 4;
/** Tasks that wait at a time. */
const prepared = 4;
/** Kills of one daemon: the supervisor's pause before it starts a backend again grows with each. */
const killsEach = 5;
/** Most starts between two kills, beyond one of each client. */
const mostStarts = 8;
/** Starts without the step at which the backend is to die: another is chosen. */
const patience = 8;

export function claimsStorm({ open }: PoolCloudKind): void {
  describe("claims beside kill -9 of the backend", () => {
    let cloud: PoolCloud;
    let directory: string;
    const armed = (): string => join(directory, "step");
    const reached = (): string => join(directory, "reached");

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), "skl-claims-"));
      const env = await testBuildEnv(armed(), reached());
      cloud = await open({ args: ["--pool-mode=fixed", `--pool-images=busybox=${prepared}`], env });
    });
    after(async () => {
      await cloud[Symbol.asyncDispose]();
      await rm(directory, { recursive: true });
    });

    /** Asks again until there is an answer: the backend may be away, for as long as a slow machine takes to start it. */
    const again = async <T>(signal: AbortSignal, ask: () => Promise<T | Error>): Promise<T> => {
      for (;;) {
        const answer = await ask().catch((error: Error) => error);
        if (!(answer instanceof Error)) {
          return answer;
        }
        if (signal.aborted) {
          throw answer;
        }
        await delay(200);
      }
    };
    const docker = (signal: AbortSignal, ...args: string[]): Promise<string> =>
      again(signal, async () => {
        const { code, text, errorText } = await cloud.daemon.docker(...args);
        return code === 0 ? text : new Error(`docker ${args.join(" ")}: ${errorText}`);
      });
    /** @param done statuses that say it is done, by this call or by one before whose answer was lost */
    const call = (
      signal: AbortSignal,
      method: string,
      path: string,
      done: readonly number[],
      body?: object,
    ) =>
      again(signal, async () => {
        const { status, text } = await callApi(cloud.daemon.socket, method, path, { body });
        return done.includes(status) ? text : new Error(`${method} ${path}: ${status} ${text}`);
      });
    const untilReady = (signal: AbortSignal): Promise<boolean> =>
      again(signal, async () => {
        const backendAddress = `unix://${cloud.daemon.backendSocket}`;
        const { tasks } = await readPool({ backendAddress, tls: undefined });
        return tasks.some(({ ready }) => ready) || new Error("no task is ready");
      });

    /** One container, from a task that waits for it to its removal. */
    const live = async (name: string, signal: AbortSignal, started: () => void): Promise<void> => {
      await untilReady(signal);
      const Cmd = ["sh", "-c", "echo ran; exec sleep 3600"];
      await call(signal, "POST", `/containers/create?name=${name}`, [201, 409], { Image: "busybox", Cmd });
      await call(signal, "POST", `/containers/${name}/start`, [204, 304]);
      started();
      const marks = await docker(signal, "exec", name, "sh", "-c", `: > /mark-${name}; ls -d /mark*`);
      assert.equal(marks, `/mark-${name}`, "its files are its own");
      assert.equal(await docker(signal, "logs", name), "ran", "its command has run once");
      await call(signal, "DELETE", `/containers/${name}?force=1`, [204, 404]);
    };

    it("leave each task to one container, each container one run, and no task behind", async (t) => {
      const { daemon, claimants } = cloud;
      const random = new Random(seed);
      await live("first", t.signal, () => rm(reached(), { force: true }));
      await live("second", t.signal, () => {});
      const steps = [...new Set((await readFile(reached(), "utf8")).trimEnd().split("\n"))];

      let made = 0;
      let kills = 0;
      let isOver = false;
      /** Containers that each client has started. */
      const started: number[] = Array.from({ length: clients }, () => 0);
      const work = async (client: number): Promise<void> => {
        while ((await claimants()).size < claims) {
          await live(`claim-${++made}`, t.signal, () => {
            started[client] = (started[client] ?? 0) + 1;
          });
        }
      };
      /** Waits until every client has started one more, and all of them so many. @returns false: the storm is over first */
      const progress = async (count: number, isEnough = (): boolean => false): Promise<boolean> => {
        const from = [...started];
        const more = (): number[] => started.map((now, client) => now - (from[client] ?? 0));
        while (!isOver && !isEnough()) {
          if (more().every((n) => n > 0) && more().reduce((sum, n) => sum + n, 0) >= count) {
            break;
          }
          await delay(25);
        }
        return !isOver;
      };
      // No kill follows another before each client has come further, so that the storm ends however slow the machine is.
      const kill = async (): Promise<void> => {
        while (await progress(clients + random.below(mostStarts))) {
          await writeFile(armed(), `${random.pick(steps)}:${1 + random.below(2)}`);
          const isTaken = (): boolean => !existsSync(armed());
          await progress(patience, isTaken);
          if (!isTaken()) {
            await rm(armed(), { force: true });
          } else if (++kills % killsEach === 0) {
            await daemon.shutDown();
            await daemon.launch();
          }
        }
      };
      const killing = kill();
      try {
        await Promise.all(started.map((_, client) => work(client)));
      } catch (error) {
        const log = join(checkout, `build/claims-${seed}.log`);
        await writeFile(log, daemon.output);
        throw new Error(`seed ${seed}, its log is ${log}`, { cause: error });
      } finally {
        isOver = true;
        await killing;
      }
      const served = [...(await claimants()).values()];
      assert.deepEqual(
        served.filter((ids) => ids.size !== 1),
        [],
        "a task was claimed for two containers",
      );
      assert.equal(await docker(t.signal, "ps", "--all", "--quiet"), "");
      t.diagnostic(
        `${served.length} claims by ${made} containers, ${kills} kills at ${steps.length} steps, seed ${seed}`,
      );
      await runSockerless("pool", "drain", "--for=1h", "--backend-address", `unix://${daemon.backendSocket}`);
      await untilTrue(async () => (await cloud.running()).length === 0);
    });
  });
}
