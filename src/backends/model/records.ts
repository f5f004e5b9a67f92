/** Reads container records: their mandatory parts, and the meaning of their phases and states. */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

import {
  type ContainerConfig,
  ContainerConfigSchema,
  type HostConfig,
  HostConfigSchema,
  type Resources,
  ResourcesSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type ContainerState,
  ContainerStateSchema,
  ContainerStatus,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../gen/sockerless/state/v1/state_pb.ts";

/** The configuration of a container; empty if the record has none. */
export function configOf(record: ContainerRecord): ContainerConfig {
  return record.config ?? create(ContainerConfigSchema);
}

/** The host configuration of a container; empty if the record has none. */
export function hostConfigOf(record: ContainerRecord): HostConfig {
  return record.hostConfig ?? create(HostConfigSchema);
}

/** The resource settings of a host configuration. */
export function resourcesOf(hostConfig: HostConfig): Resources {
  return hostConfig.resources ?? create(ResourcesSchema);
}

/** The state of a container; `created` if the record has none. */
export function stateOf(record: ContainerRecord): ContainerState {
  return record.state ?? create(ContainerStateSchema, { status: ContainerStatus.CREATED });
}

/** Whether a container has never run; a failed start does not count. */
export function isNew(record: ContainerRecord): boolean {
  return record.state?.startedAt === undefined;
}

/** A copy of a record with some fields replaced, as records in the state are shared and immutable. */
export function withFields(record: ContainerRecord, fields: Partial<ContainerRecord>): ContainerRecord {
  return { ...record, ...fields };
}

/** A copy of a record with fields of its state replaced. */
export function withState(record: ContainerRecord, fields: Partial<ContainerState>): ContainerRecord {
  return { ...record, state: { ...stateOf(record), ...fields } };
}

/**
 * Whether clients see the container. They do not see one that is still being created, nor one whose removal was
 * answered while its remains are being cleared. Both are in the state so that a crash leaves nothing behind.
 */
export function isVisible(record: ContainerRecord): boolean {
  return record.phase !== Phase.CREATING && !isRemoved(record);
}

/** Whether the container's removal was already answered. */
export function isRemoved(record: ContainerRecord): boolean {
  return record.phase === Phase.REMOVING && stateOf(record).status === ContainerStatus.REMOVING;
}

/** Docker's `Running`: it has a process, or will get one by a restart policy. */
export function isActive(record: ContainerRecord): boolean {
  const { status } = stateOf(record);
  return (
    status === ContainerStatus.RUNNING ||
    status === ContainerStatus.PAUSED ||
    status === ContainerStatus.RESTARTING
  );
}

/** Whether a start of the container is recorded as in progress. */
export function isStarting(record: ContainerRecord): boolean {
  return record.phase === Phase.STARTING;
}

/** Whether the container has a process now. */
export function hasProcess(record: ContainerRecord): boolean {
  const { status } = stateOf(record);
  return status === ContainerStatus.RUNNING || status === ContainerStatus.PAUSED;
}

/** Whether the container starts or has a process. */
export function isUp(record: ContainerRecord): boolean {
  return hasProcess(record) || isStarting(record);
}

/** Whole milliseconds of a timestamp; 0 without one. */
export function millisecondsOf(timestamp: Timestamp | undefined): number {
  return timestamp === undefined ? 0 : Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1e6);
}

/** A timestamp's nanoseconds since the epoch; 0 without one. */
export function nanosecondsOf(timestamp: Timestamp | undefined): bigint {
  return timestamp === undefined ? 0n : timestamp.seconds * 1_000_000_000n + BigInt(timestamp.nanos);
}

/** Sorts records by their times, each of which is read once: there may be thousands. */
export function sortedByTime<T>(
  records: readonly T[],
  order: "oldest first" | "newest first",
  timeOf: (record: T) => Timestamp | undefined,
): T[] {
  const later = order === "oldest first" ? 1 : -1;
  return records
    .map((record) => ({ record, ns: nanosecondsOf(timeOf(record)) }))
    .sort((a, b) => (a.ns === b.ns ? 0 : a.ns < b.ns ? -later : later))
    .map(({ record }) => record);
}

/** The timestamp of nanoseconds since the epoch. */
export function timestampOfNs(ns: bigint): Timestamp {
  const timestamp = timestampFromMs(0);
  timestamp.seconds = ns / 1_000_000_000n;
  timestamp.nanos = Number(ns % 1_000_000_000n);
  return timestamp;
}
