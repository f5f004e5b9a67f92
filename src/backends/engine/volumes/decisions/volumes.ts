/** Volumes in the state: names, users, and their form for clients. Pure. */
import { create, equals } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

import { invalid, notFound } from "../../../../common/errors.ts";
import { ownValue } from "../../../../common/own-value.ts";
import type { StringList } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import { type Volume, VolumeSchema } from "../../../../gen/sockerless/backend/v1/volume_pb.ts";
import {
  type ContainerRecord,
  Phase,
  type VolumeRecord,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { VolumeRules } from "../../../driver/volumes.ts";
import { allowedInNames, longestName, namePattern } from "../../../model/names.ts";
import { Filters } from "../../../model/filters.ts";
import { isRemoved } from "../../../model/records.ts";
import type { State } from "../../../state/state.ts";

/** Docker marks anonymous volumes with this label. */
export const anonymousLabel = "com.docker.volume.anonymous";

/** Refuses invalid volume names. @throws invalid */
export function refuseName(name: string): void {
  if (name.length === 1) {
    throw invalid(
      `create ${name}: volume name is too short, names should be at least two alphanumeric characters`,
    );
  }
  if (!namePattern.test(name)) {
    throw invalid(
      `create ${name}: ${JSON.stringify(name)} includes invalid characters for a local volume name, ` +
        `only "${allowedInNames}" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
  if (name.length > longestName) {
    throw invalid(`create ${name.slice(0, 32)}…: the volume name is longer than ${longestName} characters`);
  }
}

/** Resolves a driver's name: empty and `local` mean the backend's default driver. @throws not-found */
export function driverOf({ drivers, elsewhere = {} }: VolumeRules, volume: string, asked: string): string {
  const [first] = drivers;
  if (first !== undefined && (asked === "" || asked === "local")) {
    return first.name;
  }
  const names = drivers.map(({ name }) => name);
  if (!names.includes(asked)) {
    const reason = ownValue(elsewhere, asked) ?? `the volume drivers here are ${names.join(", ")}`;
    throw notFound(
      `create ${volume}: error looking up volume plugin ${asked}: plugin "${asked}" not found: ${reason}`,
    );
  }
  return asked;
}

/** Whether this backend may measure and prune a volume's content: one with options may belong to the user. */
export function isKeptHere({ drivers }: VolumeRules, { driver, options }: VolumeRecord): boolean {
  const content = drivers.find(({ name }) => name === driver)?.content;
  return content === "here" || (content !== undefined && Object.keys(options).length === 0);
}

/** The volume with a name. @throws not-found */
export function findVolume(state: State, name: string): VolumeRecord {
  const record = state.volumes.get(name);
  if (record === undefined || !isMade(record)) {
    throw notFound(`get ${name}: no such volume`);
  }
  return record;
}

/** The volumes that match the filters, sorted by name. @throws invalid */
export function listVolumes(
  state: State,
  filterValues: Readonly<Record<string, StringList>>,
): readonly VolumeRecord[] {
  const filters = new Filters(filterValues, ["dangling", "driver", "label", "name"]);
  const dangling = filters.boolean("dangling");
  return [...state.volumes.values()]
    .filter(
      (record) =>
        isMade(record) &&
        filters.matchesExactly("driver", record.driver) &&
        filters.matches("name", record.name) &&
        filters.matchesPairs("label", record.labels) &&
        (dangling === undefined || dangling === (usersOf(state, record.name).length === 0)),
    )
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A container's anonymous volumes that no other container uses. */
export function ownVolumes(state: State, record: ContainerRecord): readonly VolumeRecord[] {
  return record.anonymousVolumes
    .filter((name) => usersOf(state, name).every((id) => id === record.id))
    .map((name) => state.volumes.get(name))
    .filter((volume) => volume !== undefined);
}

/**
 * IDs of the containers that mount a volume, including those being created.
 *
 * @param counts selects containers; default all
 */
export function usersOf(
  state: State,
  name: string,
  counts: (record: ContainerRecord) => boolean = () => true,
): string[] {
  return containersWith(state, name)
    .filter(counts)
    .map((record) => record.id);
}

/** The containers that mount a volume, including those being created. */
export function containersWith(state: State, name: string): readonly ContainerRecord[] {
  return state.containers.withVolume(name).filter((record) => !isRemoved(record));
}

/** Whether a volume is visible to clients: not while it is being created or removed. */
export function isMade(record: VolumeRecord): boolean {
  return record.phase === Phase.UNSPECIFIED;
}

/** Whether a volume is the one that was created at a time, and not a later one with its name. */
export function isCreatedAt({ created }: VolumeRecord, time: Timestamp | undefined): boolean {
  return created !== undefined && time !== undefined && equals(TimestampSchema, created, time);
}

/** A volume's form for clients. */
export function volumeOf(record: VolumeRecord): Volume {
  return create(VolumeSchema, {
    name: record.name,
    driver: record.driver,
    mountpoint: record.mountpoint,
    ...(record.created === undefined ? {} : { created: record.created }),
    labels: record.labels,
    options: record.options,
    scope: "local",
    anonymous: record.anonymous,
  });
}
