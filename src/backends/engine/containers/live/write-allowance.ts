/**
 * Limits how much agents' reports make the state write: an image may check its health without pause, a process may
 * run out of memory repeatedly, an agent may be compromised, and each record and event may be megabytes long.
 */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { weightOf } from "../../../state/weights.ts";

/** Bytes written per second on average, as {@link weightOf} counts them, of one run. */
const perSecond = 2 ** 20;
/** And of all runs with large records together: others' writes wait for the same disk. */
const perSecondOfLarge = 4 * 2 ** 20;
/** Seconds of which all is written at once after a pause. */
const burstSeconds = 4;
/** Minimum cost of a record in bytes, however small: its write takes as long. A larger one is large. */
const leastBytes = 16 * 2 ** 10;

/** Bytes that may be written. */
class Allowance {
  readonly #perSecond: number;
  #left: number;
  #atNs: bigint | undefined;

  constructor(bytesPerSecond: number) {
    this.#perSecond = bytesPerSecond;
    this.#left = bytesPerSecond * burstSeconds;
  }

  /** Whether anything is left; what is taken then may overdraw it. */
  isLeft(nowNs: bigint): boolean {
    const seconds = Number(nowNs - (this.#atNs ?? nowNs)) / 1e9;
    this.#atNs = nowNs;
    const added = Math.max(0, seconds) * this.#perSecond;
    this.#left = Math.min(this.#perSecond * burstSeconds, this.#left + added);
    return this.#left > 0;
  }

  take(bytes: number): void {
    this.#left -= bytes;
  }
}

/** The allowance that all runs with large records share. */
export class LargeWrites extends Allowance {
  constructor() {
    super(perSecondOfLarge);
  }
}

/** The allowance of one run of a container. */
export class WriteAllowance {
  readonly #own = new Allowance(perSecond);
  /** Size of the record in bytes; it hardly changes during a run. */
  #recordBytes: number | undefined;

  /**
   * Whether another write is allowed.
   *
   * @param copies of the record: an event contains its labels
   * @param large the engine's
   */
  takes(record: ContainerRecord, copies: number, nowNs: bigint, large: LargeWrites): boolean {
    if (!this.#own.isLeft(nowNs)) {
      return false;
    }
    this.#recordBytes ??= Math.max(leastBytes, weightOf(record));
    const allowances = this.#recordBytes > leastBytes ? [this.#own, large] : [this.#own];
    if (!allowances.every((allowance) => allowance.isLeft(nowNs))) {
      return false;
    }
    for (const allowance of allowances) {
      allowance.take(copies * this.#recordBytes);
    }
    return true;
  }
}
