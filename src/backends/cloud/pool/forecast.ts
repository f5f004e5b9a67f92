/**
 * A forecast of starts, learned from earlier ones.
 *
 * Starts come in bursts: a pipeline's jobs begin together, and when the last of them has ended the next ones begin.
 * Starts less than 5 s apart thus form one burst, and a burst that begins as another ends follows that one. For a
 * running burst, earlier bursts with mostly the same kinds predict when it will end and what will follow. The rate of
 * bursts that follow nothing is the mean of two: that of the last three quarters of an hour, and that at this time of
 * earlier days.
 *
 * The result is, for each kind, the probability of a first, a second, a third… start within a minute. A task is kept
 * waiting for the n-th start while the waiting time that it is likely to save is worth its price. The price is set so
 * that the busiest known day would have cost a tenth more than the daily limit.
 */

/** A number of starts by kind. */
export type Counts = ReadonlyMap<string, number>;

/** Containers that were started together and have ended. */
export interface Burst {
  /** Unix time, in milliseconds. */
  readonly beganMs: number;
  /** Milliseconds until the last of them ended. */
  readonly lengthMs: number;
  readonly counts: Counts;
  /** Whether it began as another one ended. */
  readonly isFollower: boolean;
  /** Starts of the burst that followed it; empty if none did. */
  readonly followers: Counts;
}

/** How many tasks of a kind to keep waiting. */
export interface Level {
  /** With fewer, more are prepared. */
  readonly least: number;
  /** With more, some are stopped. Above `least`, because keeping a waiting task costs less than starting one. */
  readonly most: number;
}

interface LiveBurst {
  readonly beganMs: number;
  readonly counts: Map<string, number>;
  readonly running: Set<string>;
  readonly isFollower: boolean;
  lastMs: number;
  endedMs: number | undefined;
  follower: LiveBurst | undefined;
}

/** A burst, as far as it is known while it runs. */
type Known = Pick<Burst, "beganMs" | "counts">;

/** Ended bursts of the same kinds. */
interface Alike {
  readonly kinds: ReadonlySet<string>;
  readonly bursts: Burst[];
}

/** Ended bursts with mostly the kinds of another burst, as far as they have been looked through. */
interface Likenesses {
  readonly among: readonly Alike[];
  /** Number of kinds that the burst had: a running one gets more. */
  readonly kinds: number;
  looked: number;
  readonly found: { readonly weight: number; readonly bursts: readonly Burst[] }[];
}

/** Probabilities of 0, 1, 2… starts, by kind. */
type Chances = Map<string, Float64Array>;

/** The limit of daily cost. */
export interface Budget {
  /** The limit for waiting tasks, in hours or in money. */
  readonly perDay: number;
  /** The cost of one hour of a kind's task, in the same unit. */
  readonly costOf: (kind: string) => number;
}

/** Maximum pause between starts of one burst. */
const burstGapMs = 5_000;
/** Maximum pause between a burst's end and its follower. */
const followGapMs = 5_000;
/** Duration of a start without a prepared task: the time saved. */
const coldStartMs = 35_000;
/** Period ahead for which starts are forecast. */
const horizonMs = 60_000;
/** Starts from this long before a task is up count as served by it: waiting for it still saves them time. */
const earlyMs = 20_000;
/** Cost of the busiest known day at the price, relative to the daily limit: most other days cost less. */
const hindsight = 1.1;
/** Fraction of the price at which an already waiting task is kept. */
const keepShare = 0.6;
/** How much earlier or later than earlier bursts a burst may end. */
const blurMs = 40_000;
/** Time before and after a time of day that counts as the same time. */
const aroundMs = 45 * 60_000;
/** Similarity of two bursts, from 0 to 1, below which one is not used to predict the other; its power is the weight. */
const leastLikeness = 0.1;
const likenessPower = 4;
/** Maximum number of waiting tasks of a kind. */
const mostOfKind = 16;
/** Number of the most similar sets of kinds that predict a burst. */
const mostAlike = 256;
/** Maximum kinds of a burst; more are not counted. */
const mostKinds = 1_000;
/** Maximum bursts, and kinds of all of them together, that are remembered: {@link Forecast.isFull}. */
const mostBursts = 10_000;
const mostKindsTogether = 100_000;
/** Number of bursts from which the composition of a burst is learned. */
const compositionBursts = 200;
const calibrationStepMs = 30_000;
const none = Float64Array.of(1);
const dayMs = 24 * 60 * 60_000;
const hourMs = 60 * 60_000;

/** Learns from starts and ends, and determines which tasks are worth their price. */
export class Forecast {
  /** Ended bursts, by their kinds. */
  readonly #known = new Map<string, Alike>();
  /** The same, in the order of their first bursts; replaced when bursts are forgotten. */
  #alike: Alike[] = [];
  readonly #all: Burst[] = [];
  readonly #live = new Set<LiveBurst>();
  /** Ended bursts that may still get a follower. */
  readonly #settling = new Set<LiveBurst>();
  readonly #burstOf = new Map<string, LiveBurst>();
  readonly #likenesses = new WeakMap<Known, Likenesses>();
  /** Number of kinds of all ended bursts and their followers. */
  #kindsTogether = 0;
  #open: LiveBurst | undefined;
  /** Times of bursts without predecessor, within the last {@link aroundMs}. */
  #recentMs: number[] = [];
  #usual = { dates: 0, timesMs: [] as number[] };
  #compositions: Chances = new Map();
  #price = Infinity;

  /** @param known oldest first */
  constructor(known: Iterable<Burst> = []) {
    for (const burst of known) {
      this.#learn(burst);
    }
  }

  /**
   * Seconds of waiting that a second of a waiting task must be likely to save, per cost of its hour; Infinity if no
   * task is worth it.
   */
  get price(): number {
    return this.#price;
  }

  /** The running containers, as far as known. */
  get running(): readonly string[] {
    return [...this.#burstOf.keys()];
  }

  /** Kinds of all bursts, ended and running. */
  get kinds(): ReadonlySet<string> {
    const bursts = [...this.#all, ...this.#live, ...this.#settling];
    return new Set(bursts.flatMap(({ counts }) => [...counts.keys()]));
  }

  /** Whether there are more ended bursts than should be remembered. */
  get isFull(): boolean {
    return this.#all.length > mostBursts || this.#kindsTogether > mostKindsTogether;
  }

  /** The time before which a tenth of the ended bursts, and at least one, have begun. */
  get tenthMs(): number {
    const times = this.#all.map(({ beganMs }) => beganMs).sort((one, other) => one - other);
    const [first = 0] = times;
    return Math.max(first + 1, times[Math.ceil(times.length / 10)] ?? Infinity);
  }

  /** Records a start. One that is already known is not counted again. */
  started(containerId: string, kind: string, nowMs: number): void {
    if (this.#burstOf.has(containerId)) {
      return;
    }
    if (this.#open === undefined || nowMs - this.#open.lastMs > burstGapMs) {
      this.#open = this.#begin(nowMs);
    }
    const burst = this.#open;
    burst.lastMs = nowMs;
    if (burst.counts.size >= mostKinds && !burst.counts.has(kind)) {
      return;
    }
    burst.endedMs = undefined;
    burst.counts.set(kind, (burst.counts.get(kind) ?? 0) + 1);
    burst.running.add(containerId);
    this.#burstOf.set(containerId, burst);
    this.#live.add(burst);
    this.#settling.delete(burst);
  }

  /** Records a container's end. */
  ended(containerId: string, atMs: number): void {
    const burst = this.#burstOf.get(containerId);
    this.#burstOf.delete(containerId);
    burst?.running.delete(containerId);
    if (burst?.running.size === 0) {
      burst.endedMs = atMs;
      this.#live.delete(burst);
      this.#settling.add(burst);
    }
  }

  /** Learns from the bursts that can get no follower any more. @returns them, to be stored */
  settle(nowMs: number): readonly Burst[] {
    const settled: Burst[] = [];
    for (const live of this.#settling) {
      const { beganMs, counts, endedMs = nowMs, isFollower, follower } = live;
      if (nowMs - endedMs > followGapMs + burstGapMs) {
        this.#settling.delete(live);
        const followers: Counts = follower?.counts ?? new Map();
        settled.push({ beganMs, lengthMs: endedMs - beganMs, counts, isFollower, followers });
      }
    }
    for (const burst of settled) {
      this.#learn(burst);
    }
    return settled;
  }

  /** Drops bursts from before a time. */
  forget(beforeMs: number): void {
    const kept = this.#all.filter(({ beganMs }) => beganMs >= beforeMs);
    this.#all.length = 0;
    this.#known.clear();
    this.#alike = [];
    this.#kindsTogether = 0;
    for (const burst of kept) {
      this.#learn(burst);
    }
  }

  /** How many tasks of which kinds to keep waiting now. */
  wanted(nowMs: number, { costOf }: Pick<Budget, "costOf">): ReadonlyMap<string, Level> {
    this.#recentMs = this.#recentMs.filter((timeMs) => nowMs - timeMs < aroundMs);
    const perMs = this.#rateOf(nowMs, this.#recentMs.length);
    return this.#levels(nowMs, [...this.#live], perMs, this.#price, costOf);
  }

  /**
   * Finds the price at which the busiest day would have cost a tenth more than the limit, by simulating that day.
   *
   * @param pause awaited from time to time: this takes a second of CPU time
   */
  async calibrate({ perDay, costOf }: Budget, pause: () => Promise<void>): Promise<void> {
    const dates = Map.groupBy(this.#all, ({ beganMs }) => Math.floor(beganMs / dayMs));
    const most = Math.max(...[...dates.values()].map(({ length }) => length));
    const full = [...dates.values()].filter(({ length }) => length * 2 >= most);
    const timesMs = full
      .flat()
      .filter(({ isFollower }) => !isFollower)
      .map(({ beganMs }) => beganMs % dayMs);
    this.#usual = { timesMs, dates: full.length };
    const busiest = full.find(({ length }) => length === most);
    if (busiest === undefined) {
      return;
    }
    const kinds = [...new Set(busiest.flatMap(({ counts }) => [...counts.keys()]))];
    const costs = kinds.map(costOf).filter((cost) => cost > 0 && Number.isFinite(cost));
    if (costs.length === 0) {
      return;
    }
    let low = 0.005 / Math.max(...costs);
    let high = 1 / Math.min(...costs);
    for (let step = 0; step < 8; step++) {
      const price = Math.sqrt(low * high);
      if ((await this.#costAt(price, busiest, costOf, pause)) > perDay * hindsight) {
        low = price;
      } else {
        high = price;
      }
    }
    this.#price = high;
  }

  #begin(nowMs: number): LiveBurst {
    const before = [...this.#settling]
      .filter(({ endedMs = 0, follower }) => follower === undefined && nowMs - endedMs <= followGapMs)
      .sort((one, other) => (other.endedMs ?? 0) - (one.endedMs ?? 0))[0];
    const burst: LiveBurst = {
      beganMs: nowMs,
      lastMs: nowMs,
      counts: new Map(),
      running: new Set(),
      isFollower: before !== undefined,
      endedMs: undefined,
      follower: undefined,
    };
    if (before === undefined) {
      this.#recentMs.push(nowMs);
    } else {
      before.follower = burst;
    }
    return burst;
  }

  #learn(burst: Burst): void {
    this.#all.push(burst);
    this.#kindsTogether += burst.counts.size + burst.followers.size;
    const name = classOf(burst.counts);
    const known = this.#known.get(name);
    if (known === undefined) {
      const alike = { kinds: new Set(burst.counts.keys()), bursts: [burst] };
      this.#known.set(name, alike);
      this.#alike.push(alike);
    } else {
      known.bursts.push(burst);
    }
    this.#compositions = new Map();
  }

  /**
   * Rate of bursts without predecessor, per millisecond.
   *
   * @param recent number of those within the last {@link aroundMs}
   */
  #rateOf(nowMs: number, recent: number): number {
    const { dates, timesMs } = this.#usual;
    const recently = recent / aroundMs;
    if (dates === 0) {
      return recently;
    }
    const timeMs = nowMs % dayMs;
    const near = timesMs.filter((each) => {
      const apartMs = Math.abs(each - timeMs);
      return Math.min(apartMs, dayMs - apartMs) < aroundMs;
    });
    return (recently + near.length / (2 * aroundMs * dates)) / 2;
  }

  #levels(
    nowMs: number,
    live: readonly Known[],
    perMs: number,
    price: number,
    costOf: Budget["costOf"],
  ): ReadonlyMap<string, Level> {
    const readyMs = coldStartMs - earlyMs;
    const soon = this.#chances(nowMs, live, perMs, readyMs, readyMs + horizonMs);
    const fromNow = this.#chances(nowMs, live, perMs, 0, readyMs + horizonMs);
    const levels = new Map<string, Level>();
    for (const [kind, chances] of fromNow) {
      const cost = costOf(kind) * price;
      const least = worthwhile(soon.get(kind) ?? none, horizonMs, cost);
      const most = Math.max(least, worthwhile(chances, readyMs + horizonMs, cost * keepShare));
      if (most > 0) {
        levels.set(kind, { least, most });
      }
    }
    return levels;
  }

  /** Probabilities of starts within an interval from now. */
  #chances(nowMs: number, live: readonly Known[], perMs: number, fromMs: number, untilMs: number): Chances {
    const sum: Chances = new Map();
    for (const burst of live) {
      addTo(sum, this.#afterBurst(burst, nowMs - burst.beganMs, fromMs, untilMs));
    }
    const any = 1 - Math.exp(-perMs * (untilMs - fromMs));
    addTo(sum, this.#composition(), any);
    return sum;
  }

  /** Probabilities of the starts that follow a burst of an age. */
  #afterBurst(burst: Known, ageMs: number, fromMs: number, untilMs: number): Chances {
    const share = (untilMs - fromMs) / (untilMs - fromMs + 2 * blurMs);
    const chances: Chances = new Map();
    let all = 1; // Counts one burst that still runs, so that few observations have little effect.
    for (const { weight, bursts } of this.#mostAlike(burst)) {
      for (const { beganMs, lengthMs, followers } of bursts) {
        if (lengthMs < ageMs || beganMs === burst.beganMs) {
          continue;
        }
        all += weight;
        if (lengthMs >= ageMs + fromMs - blurMs && lengthMs < ageMs + untilMs + blurMs) {
          count(chances, followers, weight * share);
        }
      }
    }
    for (const each of chances.values()) {
      each.forEach((weight, index) => {
        each[index] = weight / all;
      });
    }
    return chances;
  }

  /** Probabilities of the composition of a burst without predecessor. */
  #composition(): Chances {
    if (this.#compositions.size === 0) {
      const bursts = this.#all.filter(({ isFollower }) => !isFollower).slice(-compositionBursts);
      for (const { counts } of bursts) {
        count(this.#compositions, counts, 1 / bursts.length);
      }
    }
    return this.#compositions;
  }

  /** The ended bursts that predict another, by the fraction of the kinds that they have in common. */
  #mostAlike(burst: Known): Likenesses["found"] {
    const among = this.#alike;
    const kinds = new Set(burst.counts.keys());
    const before = this.#likenesses.get(burst);
    const likenesses =
      before?.among === among && before.kinds === kinds.size
        ? before
        : { among, kinds: kinds.size, looked: 0, found: [] };
    this.#likenesses.set(burst, likenesses);
    const { found } = likenesses;
    for (const other of among.slice(likenesses.looked)) {
      const common = kinds.intersection(other.kinds).size;
      const weight = (common / (kinds.size + other.kinds.size - common)) ** likenessPower;
      if (weight >= leastLikeness) {
        found.push({ weight, bursts: other.bursts });
      }
    }
    likenesses.looked = among.length;
    if (found.length > mostAlike) {
      found.sort((one, other) => other.weight - one.weight);
      found.length = mostAlike;
    }
    return found;
  }

  /** The cost of the tasks that would have waited on a day. */
  async #costAt(
    price: number,
    day: readonly Burst[],
    costOf: Budget["costOf"],
    pause: () => Promise<void>,
  ): Promise<number> {
    const bursts = day.toSorted((one, other) => one.beganMs - other.beganMs);
    const waiting = new Map<string, number[]>();
    let cost = 0;
    let next = 0;
    let live: Burst[] = [];
    let recentMs: number[] = [];
    const beginMs = bursts[0]?.beganMs ?? 0;
    for (let nowMs = beginMs; next < bursts.length || live.length > 0; nowMs += calibrationStepMs) {
      await pause();
      live = live.filter(({ beganMs, lengthMs }) => beganMs + lengthMs > nowMs);
      recentMs = recentMs.filter((timeMs) => nowMs - timeMs < aroundMs);
      const levels = this.#levels(nowMs, live, this.#rateOf(nowMs, recentMs.length), price, costOf);
      for (const kind of new Set([...levels.keys(), ...waiting.keys()])) {
        const { least, most } = levels.get(kind) ?? { least: 0, most: 0 };
        const since = (waiting.get(kind) ?? []).slice(0, most);
        while (since.length < least) {
          since.push(nowMs);
        }
        waiting.set(kind, since);
        cost += (since.length * calibrationStepMs * costOf(kind)) / hourMs;
      }
      for (
        let burst = bursts[next];
        burst && burst.beganMs < nowMs + calibrationStepMs;
        burst = bursts[next]
      ) {
        next += 1;
        live.push(burst);
        if (!burst.isFollower) {
          recentMs.push(burst.beganMs);
        }
        for (const [kind, starts] of burst.counts) {
          waiting.get(kind)?.splice(0, starts); // Starts also wait for tasks that are coming up.
        }
      }
    }
    return cost;
  }
}

/** Kinds of a burst. */
function classOf(counts: Counts): string {
  return [...counts.keys()].sort().join("\n");
}

/**
 * How many tasks are worth their cost: as many as the n-th start is likely enough.
 *
 * @param cost seconds to be saved by one second's waiting
 */
function worthwhile(chances: Float64Array, windowMs: number, cost: number): number {
  let tail = 1;
  for (let wanted = 0; ; wanted++) {
    tail -= chances[wanted] ?? tail;
    if (wanted === mostOfKind || tail <= 0 || (coldStartMs / windowMs) * tail < cost) {
      return wanted;
    }
  }
}

/** Adds an observation of these counts with a weight; the rest of the weight means no start. */
function count(chances: Chances, counts: Counts, weight: number): void {
  for (const [kind, starts] of counts) {
    const each = chances.get(kind) ?? new Float64Array(mostOfKind + 1);
    const index = Math.min(starts, mostOfKind);
    each[index] = (each[index] ?? 0) + weight;
    chances.set(kind, each);
  }
}

/** Adds starts that are independent of the others. */
function addTo(sum: Chances, added: Chances, share = 1): void {
  for (const [kind, chances] of added) {
    const before = sum.get(kind);
    const after = new Float64Array(mostOfKind + 1);
    let nothing = 1;
    for (let more = 1; more <= mostOfKind; more++) {
      const chance = (chances[more] ?? 0) * share;
      nothing -= chance;
      for (let starts = 0; chance > 0 && starts <= mostOfKind; starts++) {
        const together = Math.min(starts + more, mostOfKind);
        after[together] = (after[together] ?? 0) + (before?.[starts] ?? (starts === 0 ? 1 : 0)) * chance;
      }
    }
    for (let starts = 0; starts <= mostOfKind; starts++) {
      after[starts] = (after[starts] ?? 0) + (before?.[starts] ?? (starts === 0 ? 1 : 0)) * nothing;
    }
    sum.set(kind, after);
  }
}
