/** Bounds what a container's health checks have the state write: an image may check without a pause and be megabytes long. */
import { toBinary } from "@bufbuild/protobuf";

import { type ContainerRecord, ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";

/** Bytes written per second on average. */
const perSecond = 2 ** 20;
/** Bytes written at once after a pause. */
const atOnce = 4 * 2 ** 20;
/** A result writes the container's record and three events, which have its labels and the check's command. */
const recordsPerResult = 4;

/** The allowance of one run of a container. */
export class ProbeAllowance {
  #left = atOnce;
  #atNs: bigint | undefined;
  /** Bytes of the record; they hardly change during a run. */
  #recordBytes: number | undefined;

  /** Whether another result may be written, which may take more than what is left. */
  takes(record: ContainerRecord, nowNs: bigint): boolean {
    const seconds = Number(nowNs - (this.#atNs ?? nowNs)) / 1e9;
    this.#atNs = nowNs;
    this.#left = Math.min(atOnce, this.#left + Math.max(0, seconds) * perSecond);
    if (this.#left <= 0) {
      return false;
    }
    this.#recordBytes ??= toBinary(ContainerRecordSchema, record).length;
    this.#left -= recordsPerResult * this.#recordBytes;
    return true;
  }
}
