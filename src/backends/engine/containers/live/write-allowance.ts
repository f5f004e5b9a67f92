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
/** The longest wait for a turn in seconds: runs that ended before theirs hold up others no longer. */
const longestWaitSeconds = 60;
/** Minimum cost of a record in bytes, however small: its write takes as long. A larger one is large. */
const leastBytes = 16 * 2 ** 10;

/** Bytes that may be written, as many more with each second. */
class ByteRate {
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

  /** Takes bytes, of which there may be fewer. @returns the time from which on they may be written */
  take(bytes: number, nowNs: bigint): bigint {
    const waitsForSeconds = this.isLeft(nowNs) ? 0 : -this.#left / this.#perSecond;
    this.#left = Math.max(this.#left - bytes, -this.#perSecond * longestWaitSeconds);
    return nowNs + BigInt(Math.ceil(waitsForSeconds * 1e9));
  }
}

/** The allowance that all runs with large records share, each in its turn. */
export class LargeWrites extends ByteRate {
  constructor() {
    super(perSecondOfLarge);
  }
}

/** The allowance of one run of a container. */
export class WriteAllowance {
  readonly #own = new ByteRate(perSecond);
  /** Size of the record in bytes; it hardly changes during a run. */
  #recordBytes: number | undefined;
  /** Time from which on a refused run may write once: its bytes are taken, so that others cannot have them before. */
  #turnNs: bigint | undefined;

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
    const bytes = copies * this.#recordBytes;
    if (this.#recordBytes > leastBytes) {
      this.#turnNs ??= large.take(bytes, nowNs);
      if (nowNs < this.#turnNs) {
        return false;
      }
      this.#turnNs = undefined;
    }
    this.#own.take(bytes, nowNs);
    return true;
  }
}
