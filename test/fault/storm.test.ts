/**
 * A storm of kill -9 over a daemon whose clients run, exec, follow, stop, remove and build: nothing runs twice, no client is
 * told an exit code without the whole output, no policy is given up, no wait is without an end, and nothing is left.
 * `npm run soak -- storm` makes 2,000 kills; `npm test` a few. SOCKERLESS_STORM_SEED=… makes those of a seed again, and
 * SOCKERLESS_STORM_KILLS=… so many. Of a round that shows a violation, and of a kill after which the daemon is not back, the
 * log is kept in build/storm.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";

import { compileBuilder } from "../support/builds.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilTrue } from "../support/until.ts";
import { judgeRest, left } from "./storm/judge-rest.ts";
import { Killer, kindOf, planKill } from "./storm/killer.ts";
import { Random } from "../support/random.ts";
import { Site } from "./storm/site.ts";
import { Lane } from "./storm/work.ts";
import { isSoak } from "../support/soak.ts";

const seed = process.env["SOCKERLESS_STORM_SEED"] ?? (isSoak ? randomUUID().slice(0, 8) : "sample-43");
const killCount = Number(process.env["SOCKERLESS_STORM_KILLS"] ?? (isSoak ? 2000 : 2));

/** Kills of one round: the supervisor's pause before it starts a process again grows with each. */
const killsEach = 10;
const laneCount = 6;

/** Kills and what clients did, by kind. */
interface Table {
  readonly kills: Map<string, { kills: number; processes: number }>;
  readonly work: Map<string, { well: number; failed: number }>;
  readonly violations: string[];
}

test(`${killCount} kills, seed ${seed}`, async () => {
  if (isSoak) {
    await compileBuilder();
  }
  const table: Table = { kills: new Map(), work: new Map(), violations: [] };
  const directory = await mkdtemp(join(tmpdir(), "skl-storm-"));
  const armed = join(directory, "step");
  const record = join(directory, "reached");
  await writeFile(record, "");
  try {
    await using daemon = await Daemon.startWithBusybox({
      args: ["--log-level", "debug"],
      env: await testBuildEnv(armed, record),
    });
    for (let round = 0; round * killsEach < killCount; round++) {
      await writeFile(record, "");
      await storm(
        daemon,
        round,
        Math.min(killsEach, killCount - round * killsEach),
        { armed, record },
        table,
      );
      console.log(`round ${round}: ${table.violations.length} violations so far`);
    }
  } catch (error) {
    // Both, where the disposal of the daemon fails, too.
    console.error(...(error instanceof SuppressedError ? [error.suppressed, error.error] : [error]));
    throw error;
  } finally {
    await rm(directory, { recursive: true });
    tell(table);
  }
  assert.deepEqual(table.violations, [], `seed ${seed}`);
});

/** Kills again and again while clients work, and looks at what it has come to. */
async function storm(
  daemon: Daemon,
  round: number,
  kills: number,
  { armed, record }: { readonly armed: string; readonly record: string },
  table: Table,
): Promise<void> {
  const site = new Site(daemon, round);
  const stop = new AbortController();
  const lanes = Promise.all(
    Array.from({ length: laneCount }, (_, lane) =>
      new Lane(site, new Random(`${seed} ${round} ${lane}`), `${round}-${lane}`).work(stop.signal, isSoak),
    ),
  );
  lanes.catch(() => {}); // It is waited for below.
  const random = new Random(`${seed} ${round}`);
  const killer = new Killer(daemon, armed, record, random);
  const told: string[] = [];
  for (let n = 0; n < kills; n++) {
    const kill = planKill(random);
    told.push(`${new Date().toISOString()} ${JSON.stringify(kill)}`);
    const processes = await killer.kill(kill).catch((error: unknown) => {
      keep(`${round}-${n}`, [...told, inspect(error), daemon.output]);
      throw error;
    });
    const sum = table.kills.get(kindOf(kill)) ?? { kills: 0, processes: 0 };
    table.kills.set(kindOf(kill), { kills: sum.kills + 1, processes: sum.processes + processes });
  }
  stop.abort();
  await untilTrue(async () => (await daemon.docker("ps")).code === 0);
  await site.clientsEnd(lanes);
  await judgeRest(site);
  for (const [kind, { well, failed }] of site.tallies) {
    const sum = table.work.get(kind) ?? { well: 0, failed: 0 };
    table.work.set(kind, { well: sum.well + well, failed: sum.failed + failed });
  }
  if (site.violations.length > 0) {
    const violations = site.violations.map((violation) => `round ${round}: ${violation}`);
    table.violations.push(...violations);
    keep(round, [...violations, ...told, daemon.output]);
  }
  await startAnew(site, round, table);
}

/** Ends the daemon as a user does, and starts it: nothing is left of what it had, and it does what it did. */
async function startAnew({ daemon, marks }: Site, round: number, { violations }: Table): Promise<void> {
  const log = daemon.output;
  const count = violations.length;
  await daemon.shutDown();
  violations.push(...(await left(daemon)).map((each) => `left behind: ${each}`));
  if (violations.length > count) {
    keep(`${round}-left`, [...violations.slice(count), log]);
  }
  await rm(marks, { recursive: true });
  await daemon.launch();
  const { code, text, errorText } = await daemon.docker("run", "--rm", "busybox", "echo", "works");
  assert.equal(`${code} ${text}`, "0 works", errorText);
}

/** Keeps what tells of a violation: the kills, and the daemon's log. */
function keep(round: number | string, text: readonly string[]): void {
  const directory = join(checkout, "build/storm");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${seed}-${round}.log`), text.join("\n"));
}

/** Prints what was killed and done. */
function tell({ kills, work, violations }: Table): void {
  const rows = [
    "| killed | kills | processes |",
    "|---|---|---|",
    ...[...kills].toSorted().map(([kind, sum]) => `| ${kind} | ${sum.kills} | ${sum.processes} |`),
    "",
    "| done | as on a healthy day | told as failed |",
    "|---|---|---|",
    ...[...work].toSorted().map(([kind, sum]) => `| ${kind} | ${sum.well} | ${sum.failed} |`),
    "",
    `violations: ${violations.length}, seed ${seed}`,
    ...violations,
  ];
  console.log(rows.join("\n"));
}
