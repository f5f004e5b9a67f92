/** Reading container records: the parts that are always there, and what their phases and states mean. */
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

/** The configuration of a container; empty where the record has none. */
export function configOf(record: ContainerRecord): ContainerConfig {
  return record.config ?? create(ContainerConfigSchema);
}

/** The host configuration of a container; empty where the record has none. */
export function hostConfigOf(record: ContainerRecord): HostConfig {
  return record.hostConfig ?? create(HostConfigSchema);
}

/** The resource settings of a host configuration. */
export function resourcesOf(hostConfig: HostConfig): Resources {
  return hostConfig.resources ?? create(ResourcesSchema);
}

/** The state of a container; `created` where the record has none. */
export function stateOf(record: ContainerRecord): ContainerState {
  return record.state ?? create(ContainerStateSchema, { status: ContainerStatus.CREATED });
}

/** Whether a container has never run: a start that failed is none. */
export function isNew(record: ContainerRecord): boolean {
  return record.state?.startedAt === undefined;
}

/** A copy of a record with some fields replaced: records in the state are shared and never changed. */
export function withFields(record: ContainerRecord, fields: Partial<ContainerRecord>): ContainerRecord {
  return { ...record, ...fields };
}

/** A copy of a record with parts of its state replaced. */
export function withState(record: ContainerRecord, fields: Partial<ContainerState>): ContainerRecord {
  return { ...record, state: { ...stateOf(record), ...fields } };
}

/**
 * Whether clients see the container. They do not see one that is still being made, nor one whose removal was answered
 * and whose remains are cleared away behind the answer; both are in the state so that a crash leaves nothing behind.
 */
export function isVisible(record: ContainerRecord): boolean {
  return record.phase !== Phase.CREATING && !isRemoved(record);
}

/** Whether the removal of the container was answered. */
export function isRemoved(record: ContainerRecord): boolean {
  return record.phase === Phase.REMOVING && stateOf(record).status === ContainerStatus.REMOVING;
}

/** Docker's `Running`: it has a process, or will have one again without anybody's doing. */
export function isActive(record: ContainerRecord): boolean {
  const { status } = stateOf(record);
  return (
    status === ContainerStatus.RUNNING ||
    status === ContainerStatus.PAUSED ||
    status === ContainerStatus.RESTARTING
  );
}

/** Whether a start of the container is on record that is not over. */
export function isStarting(record: ContainerRecord): boolean {
  return record.phase === Phase.STARTING;
}

/** Whether the container has a process now. */
export function hasProcess(record: ContainerRecord): boolean {
  const { status } = stateOf(record);
  return status === ContainerStatus.RUNNING || status === ContainerStatus.PAUSED;
}

const statusNames: Readonly<Record<ContainerStatus, string>> = {
  [ContainerStatus.UNSPECIFIED]: "created",
  [ContainerStatus.CREATED]: "created",
  [ContainerStatus.RUNNING]: "running",
  [ContainerStatus.PAUSED]: "paused",
  [ContainerStatus.RESTARTING]: "restarting",
  [ContainerStatus.REMOVING]: "removing",
  [ContainerStatus.EXITED]: "exited",
  [ContainerStatus.DEAD]: "dead",
};

/** Every status by the name that clients use. */
export const statusOfName: ReadonlyMap<string, ContainerStatus> = new Map(
  Object.entries(statusNames)
    .map(([status, name]) => [name, Number(status) as ContainerStatus] as const)
    .filter(([, status]) => status !== ContainerStatus.UNSPECIFIED),
);

/** The status as clients see it: `running`. */
export function statusName(record: ContainerRecord): string {
  return statusNames[stateOf(record).status];
}

/** Whole milliseconds of a timestamp; 0 where there is none. */
export function millisecondsOf(timestamp: Timestamp | undefined): number {
  return timestamp === undefined ? 0 : Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1e6);
}

/** Nanoseconds since the epoch of a timestamp. */
export function nanosecondsOf(timestamp: Timestamp): bigint {
  return timestamp.seconds * 1_000_000_000n + BigInt(timestamp.nanos);
}

/** A timestamp of a clock's nanoseconds. */
export function timestampOfNs(ns: bigint): Timestamp {
  const timestamp = timestampFromMs(0);
  timestamp.seconds = ns / 1_000_000_000n;
  timestamp.nanos = Number(ns % 1_000_000_000n);
  return timestamp;
}
