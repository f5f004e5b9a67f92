/**
 * Limits how much an agent's reports make the state write: an image may check its health without pause, a process may
 * run out of memory repeatedly, an agent may be compromised, and each record and event may be megabytes long.
 */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { weightOf } from "../../../state/weights.ts";

/** Bytes written per second on average, as {@link weightOf} counts them. */
const perSecond = 2 ** 20;
/** Maximum burst in bytes after a pause. */
const atOnce = 4 * 2 ** 20;
/** Minimum cost of a record in bytes, however small: its write takes as long. */
const leastBytes = 16 * 2 ** 10;

/** The allowance of one run of a container. */
export class WriteAllowance {
  #left = atOnce;
  #atNs: bigint | undefined;
  /** Size of the record in bytes; it hardly changes during a run. */
  #recordBytes: number | undefined;

  /**
   * Whether another write is allowed; it may overdraw what is left.
   *
   * @param copies of the record: an event contains its labels
   */
  takes(record: ContainerRecord, copies: number, nowNs: bigint): boolean {
    const seconds = Number(nowNs - (this.#atNs ?? nowNs)) / 1e9;
    this.#atNs = nowNs;
    this.#left = Math.min(atOnce, this.#left + Math.max(0, seconds) * perSecond);
    if (this.#left <= 0) {
      return false;
    }
    this.#recordBytes ??= Math.max(leastBytes, weightOf(record));
    this.#left -= copies * this.#recordBytes;
    return true;
  }
}
