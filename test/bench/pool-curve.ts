/**
 * Waiting that pools of prepared tasks save, by what they cost: the recorded days of two teams, learned on the first and
 * gone through on the second. `fixed` and `learned` go through the backend's own launches and books; `naive` is the formula
 * of a pool that prepares again what was just started.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import {
  costOf,
  parseTrace,
  type RecordedStart,
  replay,
  requestOf,
} from "../../src/backends/cloud/testing/replay.ts";
import { checkout } from "../support/daemon.ts";

/** The teams of the recorded days. */
export const teams = ["small", "busy"] as const;
export type Team = (typeof teams)[number];

/** A pool on a day. */
export interface CurvePoint {
  readonly team: Team;
  readonly policy: "naive" | "fixed" | "learned";
  /** The policy's own measure: for how long what waits, how many tasks, or how many hours a day. */
  readonly size: string;
  /** Share of the waiting that is saved. */
  readonly saved: number;
  /** Time of tasks that waited, by that of tasks that worked. */
  readonly idleShare: number;
  /** Cost of the tasks that waited, in US dollars. */
  readonly cost: number;
  /** The waiting that is saved, in hours. */
  readonly savedHours: number;
}

const coldStartS = 35;
const hourS = 3600;
const naiveSeconds = [120, 300, 600, 1200];
/** Most tasks of one kind that the naive pool has waiting. */
const naiveMost = 6;
const fixedCounts = [1, 2, 4, 8, 16];
/** Hours that a day may cost, by the work of the first day. */
const learnedShares = [0.1, 0.2, 0.3, 0.4, 0.6];

/** Goes through a team's days with each pool. */
export async function* poolCurve(team: Team): AsyncGenerator<CurvePoint> {
  const [first, second] = await Promise.all([1, 2].map((day) => recordedDay(`${team}-day-${day}`)));
  if (first === undefined || second === undefined) {
    return;
  }
  const savedHours = (saved: number): number => (saved * coldStartS * second.length) / hourS;
  for (const seconds of naiveSeconds) {
    const { saved, idleShare, cost } = naive(second, seconds);
    const size = `${seconds / 60} min`;
    yield { team, policy: "naive", size, saved, idleShare, cost, savedHours: savedHours(saved) };
  }
  const none = { idleHours: Infinity, cost: Infinity };
  for (const count of fixedCounts) {
    const wanted = mostStarted(first, count);
    const { saved, idleShare, idleCost } = await replay([second], { limits: none, fixed: () => wanted });
    const size = count === 1 ? "1 task" : `${count} tasks`;
    yield { team, policy: "fixed", size, saved, idleShare, cost: idleCost, savedHours: savedHours(saved) };
  }
  for (const share of learnedShares) {
    const idleHours = share * workHours(first);
    const found = await replay([first, second], { limits: { ...none, idleHours } });
    const { saved, idleShare, idleCost } = found;
    const size = `${idleHours.toFixed(1)} h`;
    yield { team, policy: "learned", size, saved, idleShare, cost: idleCost, savedHours: savedHours(saved) };
  }
}

/** A row of the table, in euros. */
export function curveRow(point: CurvePoint, eurosPerDollar: number): string {
  const { team, policy, size, saved, idleShare, cost, savedHours } = point;
  const euros = cost * eurosPerDollar;
  const each = savedHours === 0 ? "–" : (euros / savedHours).toFixed(2);
  return `| ${[team, policy, size, saved.toFixed(2), idleShare.toFixed(2), euros.toFixed(2), each].join(" | ")} |`;
}

/** The head of the table. */
export const curveHead = [
  "| team | pool | its size | waiting saved | idle by working time | € a day | € an hour of waiting saved |",
  "|---|---|---|---|---|---|---|",
] as const;

async function recordedDay(name: string): Promise<readonly RecordedStart[]> {
  return parseTrace(await readFile(join(checkout, "test/fixtures/traces", `${name}.csv`), "utf8"));
}

function workHours(starts: readonly RecordedStart[]): number {
  return starts.reduce((sum, { durationS }) => sum + durationS + coldStartS, 0) / hourS;
}

/** So many tasks for the kinds that were started most, each of them for those that have the most starts left. */
function mostStarted(starts: readonly RecordedStart[], count: number) {
  const found = new Map<string, { starts: number; count: number }>();
  for (const start of starts) {
    const request = requestOf(start);
    const kind = found.get(request) ?? { starts: 0, count: 0 };
    kind.starts += 1;
    found.set(request, kind);
  }
  const kinds = [...found.values()];
  for (let given = 0; given < count; given++) {
    const [most] = kinds.toSorted((a, b) => b.starts / (b.count + 1) - a.starts / (a.count + 1));
    if (most !== undefined) {
      most.count += 1;
    }
  }
  return [...found].map(([request, kind]) => ({ request, kind: request, count: kind.count }));
}

/** Each start has another task of its kind prepared, which waits for so many seconds. */
function naive(
  starts: readonly RecordedStart[],
  seconds: number,
): { readonly saved: number; readonly idleShare: number; readonly cost: number } {
  const pools = new Map<string, { readyS: number; untilS: number }[]>();
  let [waitedS, idleS, cost] = [0, 0, 0];
  const idle = (request: string, forS: number): void => {
    idleS += forS;
    cost += (forS / hourS) * costOf(request);
  };
  for (const start of starts) {
    const request = requestOf(start);
    const { startS } = start;
    const before = pools.get(request) ?? [];
    for (const { readyS, untilS } of before.filter((each) => each.untilS < startS)) {
      idle(request, untilS - (readyS - coldStartS));
    }
    const pool = before.filter(({ untilS }) => untilS >= startS).sort((a, b) => a.readyS - b.readyS);
    const [next] = pool;
    if (next !== undefined && next.readyS <= startS + coldStartS) {
      pool.shift();
      waitedS += Math.max(0, next.readyS - startS);
      idle(request, Math.max(0, startS - (next.readyS - coldStartS)));
    } else {
      waitedS += coldStartS;
    }
    if (pool.length < naiveMost) {
      pool.push({ readyS: startS + coldStartS, untilS: startS + coldStartS + seconds });
    }
    pools.set(request, pool);
  }
  for (const [request, pool] of pools) {
    for (const { readyS, untilS } of pool) {
      idle(request, untilS - (readyS - coldStartS));
    }
  }
  return {
    saved: 1 - waitedS / (coldStartS * starts.length),
    idleShare: idleS / hourS / workHours(starts),
    cost,
  };
}
