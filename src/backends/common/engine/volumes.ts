/** The volume registry: made once by name, removed when nobody uses them. */
import { create } from "@bufbuild/protobuf";

import { conflict, invalid, messageOf, notFound } from "../../../common/errors.ts";
import { newId } from "../../../common/ids.ts";
import type { StringList } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { type Volume, VolumeSchema } from "../../../gen/sockerless/backend/v1/volume_pb.ts";
import { type VolumeRecord, VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../state/state.ts";
import type { EngineContext } from "./context.ts";
import { Filters } from "./filters.ts";
import type { WantedVolume } from "./mounts/plan-mounts.ts";
import { hasProcess, isVisible, timestampOfNs } from "./records.ts";

const allowed = "[a-zA-Z0-9][a-zA-Z0-9_.-]";
const pattern = new RegExp(`^${allowed}+$`);
const longestName = 255;

/** Docker marks anonymous volumes with this label. */
const anonymousLabel = "com.docker.volume.anonymous";

/** A volume, and whether it was made just now. */
export interface EnsuredVolume {
  readonly record: VolumeRecord;
  readonly created: boolean;
}

/**
 * The volume of that name, made where it does not exist; an anonymous one is always new.
 *
 * @throws invalid: name or driver options; not-found: driver; conflict: it exists with another driver
 */
export async function ensureVolume(context: EngineContext, wanted: WantedVolume): Promise<EnsuredVolume> {
  const anonymous = wanted.name === "";
  const name = anonymous ? newId() : wanted.name;
  if (!anonymous) {
    refuseName(name);
  }
  const driver = driverOf(context, name, wanted.driver);
  return await context.volumeLocks.run(name, async () => {
    const known = context.state.volumes.get(name);
    if (known !== undefined) {
      if (wanted.driver !== "" && known.driver !== driver) {
        throw conflict(
          `create ${name}: found reference to volume '${name}' in driver '${known.driver}': ` +
            "volume name must be unique",
        );
      }
      return { record: known, created: false };
    }
    const planned = create(VolumeRecordSchema, {
      name,
      driver,
      created: timestampOfNs(context.clock.nowNs()),
      labels: anonymous ? { ...wanted.labels, [anonymousLabel]: "" } : { ...wanted.labels },
      options: { ...wanted.options },
      anonymous,
    });
    const made = await context.driver.volumes.create(planned);
    const record = {
      ...planned,
      driverReference: made.reference,
      mountpoint: context.driver.policy.volumeMountpoint(name) ?? made.mountpoint,
    };
    await context.state.commit((change) => {
      change.volumes.put(record);
      change.event({ type: "volume", action: "create", actorId: name, attributes: { driver } });
    });
    return { record, created: true };
  });
}

/** The volume of that name. @throws not-found */
export function findVolume(state: State, name: string): VolumeRecord {
  const record = state.volumes.get(name);
  if (record === undefined) {
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
        filters.matchesExactly("driver", record.driver) &&
        filters.matches("name", record.name) &&
        filters.matchesPairs("label", record.labels) &&
        (dangling === undefined || dangling === (usersOf(state, record.name).length === 0)),
    )
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Removes a volume. @throws not-found, unless forced; conflict: in use */
export async function removeVolume(context: EngineContext, name: string, force: boolean): Promise<void> {
  await context.volumeLocks.run(name, async () => {
    const record = context.state.volumes.get(name);
    if (record === undefined) {
      if (force) {
        return;
      }
      throw notFound(`get ${name}: no such volume`);
    }
    refuseUsed(context, name, force);
    await context.driver.volumes.remove(record);
    await context.state.commit((change) => {
      change.volumes.delete(name);
      change.event(destroyEvent(record));
    });
  });
}

/**
 * Removes those of a container's anonymous volumes that no other container uses; failures are logged.
 *
 * @returns the records whose volumes are gone, to be deleted in the caller's change
 */
export async function removeAnonymousVolumes(
  context: EngineContext,
  containerId: string,
  names: readonly string[],
): Promise<readonly VolumeRecord[]> {
  const gone: VolumeRecord[] = [];
  for (const name of names) {
    const record = context.state.volumes.get(name);
    const others = usersOf(context.state, name).filter((id) => id !== containerId);
    if (record === undefined || others.length > 0) {
      continue;
    }
    try {
      await context.driver.volumes.remove(record);
      gone.push(record);
    } catch (error) {
      context.logger.error({ err: error, volume: name }, `cannot remove a volume: ${messageOf(error)}`);
    }
  }
  return gone;
}

/** The event of a volume that is gone. */
export function destroyEvent(record: VolumeRecord) {
  return {
    type: "volume",
    action: "destroy",
    actorId: record.name,
    attributes: { driver: record.driver },
  } as const;
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

/** IDs of the containers that mount a volume. */
function usersOf(state: State, name: string, onlyRunning = false): string[] {
  return [...state.containers.values()]
    .filter((record) => isVisible(record) && (!onlyRunning || hasProcess(record)))
    .filter((record) => record.mounts.some((point) => point.type === "volume" && point.name === name))
    .map((record) => record.id);
}

function refuseUsed(context: EngineContext, name: string, force: boolean): void {
  const { policy } = context.driver;
  const users = usersOf(context.state, name, policy.volumeInUse === "running");
  if (users.length > 0 && !(force && policy.forceRemovesUsedVolume)) {
    throw conflict(policy.volumeInUseMessage ?? `remove ${name}: volume is in use - [${users.join(", ")}]`);
  }
}

function refuseName(name: string): void {
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

/** The driver that a name means: nothing and `local` mean the backend's first. */
function driverOf(context: EngineContext, volume: string, asked: string): string {
  const { volumeDrivers } = context.driver.policy;
  const [first = "local"] = volumeDrivers;
  if (asked === "" || asked === "local") {
    return first;
  }
  if (!volumeDrivers.includes(asked)) {
    throw notFound(`create ${volume}: error looking up volume plugin ${asked}: plugin "${asked}" not found`);
  }
  return asked;
}
