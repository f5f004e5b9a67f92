/** The volume registry: made once by name, removed when nobody uses them. */
import { create } from "@bufbuild/protobuf";

import { conflict, invalid, notFound } from "../../../common/errors.ts";
import { newId } from "../../../common/ids.ts";
import type { StringList } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { type Volume, VolumeSchema } from "../../../gen/sockerless/backend/v1/volume_pb.ts";
import {
  type ContainerRecord,
  Phase,
  VolumePartSchema,
  type VolumeRecord,
  VolumeRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Change, State } from "../state/state.ts";
import { UnsettledError } from "../unsettled-error.ts";
import type { EngineContext } from "./context.ts";
import { Filters } from "./filters.ts";
import type { WantedVolume } from "./mounts/plan-mounts.ts";
import { isRemoved, timestampOfNs } from "./records.ts";
import { throwIfShuttingDown } from "./shutting-down.ts";
import { isUpOrComing } from "./up-or-coming.ts";

const allowed = "[a-zA-Z0-9][a-zA-Z0-9_.-]";
const pattern = new RegExp(`^${allowed}+$`);
const longestName = 255;

/** Docker marks anonymous volumes with this label. */
export const anonymousLabel = "com.docker.volume.anonymous";

/** What a container adds to the changes of a volume that it is to have. */
export interface VolumeOwner {
  /** A new volume of that name is his. */
  readonly claim?: (change: Change, name: string) => void;
  /** He mounts the volume. */
  readonly use?: (change: Change, volume: VolumeRecord) => void;
}

/**
 * The volume of that name, made where it does not exist; an anonymous one is always new. That it is being made is
 * journalled before the driver makes it, so that a crash leaves none that nobody knows.
 *
 * @param owner who the volume is for: what belongs into the change that announces a new one, and what makes him its
 *   user. Both happen with the volume's lock held, so nobody removes it in between.
 * @throws invalid: name or driver options; not-found: driver; conflict: it exists with another driver
 */
export async function ensureVolume(
  context: EngineContext,
  wanted: WantedVolume,
  owner: VolumeOwner = {},
): Promise<VolumeRecord> {
  const anonymous = wanted.name === "";
  const name = anonymous ? newId() : wanted.name;
  if (!anonymous) {
    refuseName(name);
  }
  const driver = driverOf(context, name, wanted.driver);
  return await context.volumeLocks.run(name, async () => {
    await settleForReuse(context, name);
    const known = context.state.volumes.get(name);
    if (known !== undefined) {
      if (wanted.driver !== "" && known.driver !== driver) {
        throw conflict(
          `create ${name}: found reference to volume '${name}' in driver '${known.driver}': ` +
            "volume name must be unique",
        );
      }
      if (owner.use !== undefined) {
        await context.state.commit((change) => owner.use?.(change, known));
      }
      return known;
    }
    const planned = create(VolumeRecordSchema, {
      name,
      driver,
      created: timestampOfNs(context.clock.nowNs()),
      labels: anonymous ? { ...wanted.labels, [anonymousLabel]: "" } : { ...wanted.labels },
      options: { ...wanted.options },
      anonymous,
      phase: Phase.CREATING,
    });
    await context.state.commit((change) => {
      change.volumes.put(planned);
      owner.claim?.(change, name);
    });
    try {
      return await finishCreation(context, planned, owner.use);
    } catch (error) {
      throwIfShuttingDown(context, error);
      if (error instanceof UnsettledError) {
        context.logger.warn(
          { err: error, volume: name },
          "a volume may have been made although its creation failed: it is looked for when the name is used again, or at the next start",
        );
      } else {
        await context.state.commit((change) => change.volumes.delete(name));
      }
      throw error;
    }
  });
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

/**
 * Removes a volume. One that nobody sees, since its creation failed and it may have been made all the same, is taken away
 * before the answer, too.
 *
 * @throws not-found, unless forced; conflict: in use; what the driver throws
 */
export async function removeVolume(context: EngineContext, name: string, force: boolean): Promise<void> {
  await context.volumeLocks.run(name, async () => {
    const record = context.state.volumes.get(name);
    if (record === undefined || !isMade(record)) {
      if (record?.phase === Phase.CREATING) {
        await finishRemoval(context, record); // It may have been made although its creation failed.
      }
      if (force) {
        return;
      }
      throw notFound(`get ${name}: no such volume`);
    }
    refuseUsed(context, name, force);
    await context.state.commit((change) => change.volumes.put({ ...record, phase: Phase.REMOVING }));
    try {
      await finishRemoval(context, record);
    } catch (error) {
      throwIfShuttingDown(context, error);
      // Parts may be gone: each is looked for at the next removal, and made again for the next mount.
      const parts = record.parts.map(({ subpath }) => create(VolumePartSchema, { subpath }));
      await context.state.commit((change) => change.volumes.put({ ...record, parts }));
      throw error;
    }
  });
}

/** Those of a container's anonymous volumes that no other container uses. */
export function ownVolumes(state: State, record: ContainerRecord): readonly VolumeRecord[] {
  return record.anonymousVolumes
    .filter((name) => usersOf(state, name).every((id) => id === record.id))
    .map((name) => state.volumes.get(name))
    .filter((volume) => volume !== undefined);
}

/** Finishes, behind a crash or a removal that was journalled, what was begun with a volume; if nothing was, does nothing. */
export async function settleVolume(context: EngineContext, name: string): Promise<void> {
  await context.volumeLocks.run(name, () => settleLocked(context, name));
}

/** Removes a volume of a container that never came to be, whatever was done of it. */
export async function discardVolume(context: EngineContext, record: VolumeRecord): Promise<void> {
  await context.volumeLocks.run(record.name, () => finishRemoval(context, record));
}

/** With the volume's lock held. */
async function settleLocked(context: EngineContext, name: string): Promise<void> {
  const record = context.state.volumes.get(name);
  if (record === undefined || isMade(record)) {
    return;
  }
  if (record.phase === Phase.CREATING && !record.anonymous) {
    await finishCreation(context, record);
  } else {
    await finishRemoval(context, record);
  }
}

/**
 * What an earlier process has made must not be made twice, and what it could not make does not keep the name. With the
 * volume's lock held.
 */
async function settleForReuse(context: EngineContext, name: string): Promise<void> {
  try {
    await settleLocked(context, name);
  } catch (error) {
    throwIfShuttingDown(context, error);
    const record = context.state.volumes.get(name);
    if (record?.phase !== Phase.CREATING || error instanceof UnsettledError) {
      throw error;
    }
    context.logger.warn({ err: error, volume: name }, "a volume whose creation was cut off cannot be made");
    await finishRemoval(context, record);
  }
}

async function finishCreation(
  context: EngineContext,
  planned: VolumeRecord,
  use?: VolumeOwner["use"],
): Promise<VolumeRecord> {
  const { name, driver } = planned;
  const made = await context.driver.volumes.create(planned);
  const record = {
    ...planned,
    phase: Phase.UNSPECIFIED,
    driverReference: made.reference,
    mountpoint: context.driver.policy.volumeMountpoint(name) ?? made.mountpoint,
  };
  await context.state.commit((change) => {
    change.volumes.put(record);
    use?.(change, record);
    change.event({ type: "volume", action: "create", actorId: name, attributes: { driver } });
  });
  return record;
}

async function finishRemoval(context: EngineContext, record: VolumeRecord): Promise<void> {
  const wasMade = context.state.volumes.get(record.name)?.phase !== Phase.CREATING;
  await context.driver.volumes.remove(record);
  await context.state.commit((change) => {
    change.volumes.delete(record.name);
    if (wasMade) {
      change.event({
        type: "volume",
        action: "destroy",
        actorId: record.name,
        attributes: { driver: record.driver },
      });
    } // Nobody was told of one whose creation was cut off.
  });
}

/** Whether clients see a volume: not while it is being made or removed. */
function isMade(record: VolumeRecord): boolean {
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
  return [...state.containers.values()]
    .filter((record) => !isRemoved(record) && counts(record))
    .filter((record) => record.mounts.some((point) => point.type === "volume" && point.name === name))
    .map((record) => record.id);
}

function refuseUsed(context: EngineContext, name: string, force: boolean): void {
  const { policy } = context.driver;
  const users = usersOf(
    context.state,
    name,
    (record) => policy.volumeInUse !== "running" || isUpOrComing(context, record),
  );
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
