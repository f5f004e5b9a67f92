/** Volumes as the state knows them: their names, who uses them, and how clients see them. Pure. */
import { create } from "@bufbuild/protobuf";

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
import { Filters } from "../../../model/filters.ts";
import { isRemoved } from "../../../model/records.ts";
import type { State } from "../../../state/state.ts";

const allowed = "[a-zA-Z0-9][a-zA-Z0-9_.-]";
const pattern = new RegExp(`^${allowed}+$`);
const longestName = 255;

/** Docker marks anonymous volumes with this label. */
export const anonymousLabel = "com.docker.volume.anonymous";

/** Refuses what cannot be the name of a volume. @throws invalid */
export function refuseName(name: string): void {
  if (name.length === 1) {
    throw invalid(
      `create ${name}: volume name is too short, names should be at least two alphanumeric characters`,
    );
  }
  if (!pattern.test(name)) {
    throw invalid(
      `create ${name}: ${JSON.stringify(name)} includes invalid characters for a local volume name, ` +
        `only "${allowed}" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
  if (name.length > longestName) {
    throw invalid(`create ${name.slice(0, 32)}…: the volume name is longer than ${longestName} characters`);
  }
}

/** The driver that a name means: nothing and `local` mean the backend's first. @throws not-found */
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

/** Whether what is in a volume is this backend's to measure and to prune: one made with options may be somebody's own. */
export function isKeptHere({ drivers }: VolumeRules, { driver, options }: VolumeRecord): boolean {
  const content = drivers.find(({ name }) => name === driver)?.content;
  return content === "here" || (content !== undefined && Object.keys(options).length === 0);
}

/** The volume of that name. @throws not-found */
export function findVolume(state: State, name: string): VolumeRecord {
  const record = state.volumes.get(name);
  if (record === undefined || !isMade(record)) {
    throw notFound(`get ${name}: no such volume`);
  }
  return record;
}

/** The volumes that pass the filters, by name. @throws invalid */
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

/** Those of a container's anonymous volumes that no other container uses. */
export function ownVolumes(state: State, record: ContainerRecord): readonly VolumeRecord[] {
  return record.anonymousVolumes
    .filter((name) => usersOf(state, name).every((id) => id === record.id))
    .map((name) => state.volumes.get(name))
    .filter((volume) => volume !== undefined);
}

/**
 * IDs of the containers that mount a volume, those that are being made among them.
 *
 * @param counts which of them are meant; absent: all
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

/** The containers that mount a volume, those that are being made among them. */
export function containersWith(state: State, name: string): readonly ContainerRecord[] {
  return [...state.containers.values()].filter(
    (record) =>
      !isRemoved(record) && record.mounts.some((point) => point.type === "volume" && point.name === name),
  );
}

/** Whether clients see a volume: not while it is being made or removed. */
export function isMade(record: VolumeRecord): boolean {
  return record.phase === Phase.UNSPECIFIED;
}

/** A volume as clients see it. */
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
