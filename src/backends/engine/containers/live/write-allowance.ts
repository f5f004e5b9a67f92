/**
 * Bounds what a container has the state write by what its agent reports: an image may check its health without a pause, a
 * process may run out of memory over and over, an agent may lie, and each record and event may be megabytes long.
 */
import { toBinary } from "@bufbuild/protobuf";

import { type ContainerRecord, ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";

/** Bytes written per second on average. */
const perSecond = 2 ** 20;
/** Bytes written at once after a pause. */
const atOnce = 4 * 2 ** 20;
/** Bytes that the smallest record counts as: its write takes as long. */
const leastBytes = 16 * 2 ** 10;

/** The allowance of one run of a container. */
export class WriteAllowance {
  #left = atOnce;
  #atNs: bigint | undefined;
  /** Bytes of the record; they hardly change during a run. */
  #recordBytes: number | undefined;

  /**
   * Whether something more may be written, which may take more than what is left.
   *
   * @param copies of the record: an event has its labels
   */
  takes(record: ContainerRecord, copies: number, nowNs: bigint): boolean {
    const seconds = Number(nowNs - (this.#atNs ?? nowNs)) / 1e9;
    this.#atNs = nowNs;
    this.#left = Math.min(atOnce, this.#left + Math.max(0, seconds) * perSecond);
    if (this.#left <= 0) {
      return false;
    }
    this.#recordBytes ??= Math.max(leastBytes, toBinary(ContainerRecordSchema, record).length);
    this.#left -= copies * this.#recordBytes;
    return true;
  }
}
