/** The cost of waiting tasks: accounted while they wait, stored in the state, and limited per day. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import { preparedWaited } from "../../../common/metrics/measure.ts";
import { type PoolRecord, PoolRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../state/state.ts";

/** A task that waits. */
export interface Waiting {
  readonly createdMs: number;
  /** In the prices' currency; 0 if unknown. */
  readonly costPerHour: number;
}

/** Daily limits of cost (UTC); Infinity for none. */
export interface DayLimits {
  readonly idleHours: number;
  readonly cost: number;
}

/** Settings and dependencies of {@link Spending}. */
export interface SpendingOptions {
  readonly state: Pick<State, "pool" | "commit">;
  readonly clock: Clock;
  readonly limits: DayLimits;
}

const id = "spending";
const hourMs = 60 * 60_000;

/** The account of one day. */
export class Spending {
  readonly #options: SpendingOptions;
  #day = "";
  #idleHours = 0;
  #cost = 0;
  #countedMs = 0;
  /** The day whose limit is reached: what is left is too little for any task. */
  #spentDay: string | undefined;

  constructor(options: SpendingOptions) {
    this.#options = options;
    const kept = options.state.pool.get(id)?.spending;
    if (kept !== undefined) {
      this.#day = kept.day;
      this.#idleHours = kept.idleHours;
      this.#cost = kept.cost;
      this.#countedMs = kept.countedUntil === undefined ? 0 : timestampMs(kept.countedUntil);
    }
  }

  /** The cost of the day so far. */
  get today(): DayLimits {
    return { idleHours: this.#idleHours, cost: this.#cost };
  }

  /** Accounts for the time since the last call, or since a task's creation. */
  count(waiting: Iterable<Waiting>): void {
    const nowMs = this.#options.clock.nowMs();
    const day = new Date(nowMs).toISOString().slice(0, 10);
    if (day !== this.#day) {
      this.#day = day;
      this.#idleHours = 0;
      this.#cost = 0;
    }
    for (const { createdMs, costPerHour } of waiting) {
      this.add(Math.max(0, nowMs - Math.max(createdMs, this.#countedMs)), costPerHour);
    }
    this.#countedMs = nowMs;
  }

  /** Accounts for a period that {@link count} did not cover. */
  add(ms: number, costPerHour: number): void {
    const cost = (ms / hourMs) * costPerHour;
    this.#idleHours += ms / hourMs;
    this.#cost += cost;
    preparedWaited.report(() => ({ seconds: ms / 1000, cost }));
  }

  get limits(): DayLimits {
    return this.#options.limits;
  }

  /** Whether {@link isSpent} has returned true today. */
  get isDaySpent(): boolean {
    return this.#spentDay === this.#day;
  }

  /**
   * Whether the daily limit would be exceeded if these tasks kept waiting for a time; once true, true for the rest of
   * the day.
   */
  isSpent(waiting: Iterable<Waiting>, forMs: number): boolean {
    const { limits } = this.#options;
    let { idleHours, cost } = this.today;
    for (const { costPerHour } of waiting) {
      idleHours += forMs / hourMs;
      cost += (forMs / hourMs) * costPerHour;
    }
    if (idleHours >= limits.idleHours || cost >= limits.cost) {
      this.#spentDay = this.#day;
    }
    return this.isDaySpent;
  }

  /** Stores the account. */
  async save(): Promise<void> {
    const spending = {
      day: this.#day,
      idleHours: this.#idleHours,
      cost: this.#cost,
      countedUntil: timestampFromMs(this.#countedMs),
    };
    const record: PoolRecord = create(PoolRecordSchema, { id, spending });
    await this.#options.state.commit((change) => change.pool.put(record), "happened");
  }
}
