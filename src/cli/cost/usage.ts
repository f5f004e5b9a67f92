/** Runs of containers and what they cost. Pure. */
import type { Prices } from "../../common/prices.ts";

/** The share of a machine that a container has while it runs. */
export interface Size {
  readonly cpus: number;
  readonly gib: number;
}

/** A container that runs, or has run. */
export interface UsedContainer {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly size: Size;
  /** True if it is removed, so that only the least size can be told. */
  readonly isRemoved: boolean;
  /** Runs, in milliseconds since 1970; the one that goes on has no end. */
  readonly runs: readonly { readonly fromMs: number; readonly untilMs: number | undefined }[];
}

/** A line of the answer: a container, or all with one value of a label. */
export interface Cost {
  readonly name: string;
  /** Full ID; absent for the sum of several. */
  readonly id?: string;
  readonly containers: number;
  readonly running: number;
  readonly seconds: number;
  readonly amount: number;
  readonly perHour: number;
  /** True if some of it is of removed containers, which may have been larger. */
  readonly isLeast: boolean;
}

/** A span of time in milliseconds since 1970. */
export interface Period {
  readonly fromMs: number;
  readonly nowMs: number;
}

/** The costs of containers, the dearest first. @param label sums by its values; undefined: each by itself */
export function costsOf(
  containers: readonly UsedContainer[],
  prices: Prices,
  period: Period,
  label: string | undefined,
): readonly Cost[] {
  const single = containers.map((each) => ({ container: each, cost: costOf(each, prices, period) }));
  if (label === undefined) {
    return single.map(({ cost }) => cost).toSorted(byCost);
  }
  const groups = Map.groupBy(single, ({ container }) => container.labels[label] ?? "");
  return [...groups]
    .map(([value, members]) =>
      total(
        value === "" ? `(no ${label})` : value,
        members.map(({ cost }) => cost),
      ),
    )
    .toSorted(byCost);
}

/** The sum of costs. */
export function total(name: string, costs: readonly Cost[]): Cost {
  const sum = (of: (cost: Cost) => number): number => costs.reduce((all, cost) => all + of(cost), 0);
  return {
    name,
    containers: sum(({ containers }) => containers),
    running: sum(({ running }) => running),
    seconds: sum(({ seconds }) => seconds),
    amount: sum(({ amount }) => amount),
    perHour: sum(({ perHour }) => perHour),
    isLeast: costs.some(({ isLeast }) => isLeast),
  };
}

function costOf({ id, name, size, runs, isRemoved }: UsedContainer, prices: Prices, period: Period): Cost {
  const rate = size.cpus * prices.perVcpuHour + size.gib * prices.perGibHour;
  const charged = runs.map((run) => chargedSeconds(run, prices.leastSeconds, period));
  const seconds = charged.reduce((sum, each) => sum + each, 0);
  const running = runs.some(({ untilMs }) => untilMs === undefined) ? 1 : 0;
  return {
    ...{ name, id, containers: 1, running, seconds },
    amount: (seconds / 3600) * rate,
    perHour: running * rate,
    isLeast: isRemoved,
  };
}

/** Seconds of a run that fall into the period; a short run that ended in it has the least that is charged. */
function chargedSeconds(
  { fromMs, untilMs }: UsedContainer["runs"][number],
  leastSeconds: number,
  { fromMs: beginMs, nowMs }: Period,
): number {
  const end = untilMs ?? nowMs;
  if (end <= beginMs) {
    return 0;
  }
  const least = untilMs === undefined ? 0 : leastSeconds;
  const before = Math.max(0, beginMs - fromMs) / 1000;
  return Math.max(0, Math.max((end - fromMs) / 1000, least) - before);
}

function byCost(one: Cost, other: Cost): number {
  return other.amount - one.amount || one.name.localeCompare(other.name);
}
