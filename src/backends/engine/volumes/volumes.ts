/** The volume registry: creates a volume once per name, removes it when unused. */
import { create } from "@bufbuild/protobuf";

import { conflict, isErrorKind, notFound } from "../../../common/errors.ts";
import { ownValue } from "../../../common/own-value.ts";
import { newId } from "../../../common/ids.ts";
import {
  Phase,
  VolumePartSchema,
  type VolumeRecord,
  VolumeRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Change } from "../../state/state.ts";
import { UnsettledError } from "../../driver/unsettled-error.ts";
import type { EngineContext } from "../context.ts";
import { anonymousLabel, driverOf, isMade, refuseName, usersOf } from "./decisions/volumes.ts";
import type { WantedVolume } from "../containers/decisions/mounts/plan-mounts.ts";
import { timestampOfNs } from "../../model/records.ts";
import { throwIfShuttingDown } from "../work/shutting-down.ts";
import { isUpOrComing } from "../containers/live/up-or-coming.ts";

/** A container's additions to the changes of its volumes. */
export interface VolumeOwner {
  /** Whether a missing volume is an error; default: it is created. */
  readonly mustExist?: boolean;
  /** Throws if the container may not use the volume; called right before `use`. */
  readonly admit?: (volume: VolumeRecord) => void;
  /** Makes a new volume with this name the container's. */
  readonly claim?: (change: Change, name: string) => void;
  /** Makes the container a user of the volume. */
  readonly use?: (change: Change, volume: VolumeRecord) => void;
}

/**
 * The volume with a name, created if it does not exist; an anonymous one is always new. The creation is journalled
 * before the driver's, so that a crash leaves no unknown volume.
 *
 * @param owner additions of the container that the volume is for: to the change that announces a new volume, and to the
 *   one that registers its user. Both happen under the volume's lock, so that it cannot be removed in between.
 * @param left ends the wait for other changes of the volume; what has begun goes on
 * @throws invalid: name or driver options; not-found: driver, or a volume that must exist; conflict: it exists with
 *   another driver, or may not be used
 */
export async function ensureVolume(
  context: EngineContext,
  wanted: WantedVolume,
  owner: VolumeOwner = {},
  left?: AbortSignal,
): Promise<VolumeRecord> {
  const anonymous = wanted.name === "";
  const name = anonymous ? newId() : wanted.name;
  if (!anonymous) {
    refuseName(name);
  }
  const driver = driverOf(context.driver.volumes.rules, name, wanted.driver);
  return await context.volumeLocks.run(
    name,
    async () => {
      await settleForReuse(context, name);
      const known = context.state.volumes.get(name);
      if (known !== undefined) {
        if (wanted.driver !== "" && known.driver !== driver) {
          throw conflict(
            `create ${name}: found reference to volume '${name}' in driver '${known.driver}': ` +
              "volume name must be unique",
          );
        }
        await refuseOther(context, known, wanted);
        owner.admit?.(known);
        if (owner.use !== undefined) {
          await context.state.commit((change) => owner.use?.(change, known));
        }
        return known;
      }
      if (owner.mustExist === true) {
        throw notFound(`get ${name}: no such volume`);
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
    },
    left,
  );
}

/**
 * Removes a volume. An invisible one, whose creation failed but may have taken effect, is removed before the answer
 * too.
 *
 * @param admits tells, with the volume's lock held, whether the volume that has the name by then is the intended one
 * @param left as in {@link ensureVolume}
 * @throws not-found, unless forced; conflict: in use; the driver's errors
 */
export async function removeVolume(
  context: EngineContext,
  name: string,
  force: boolean,
  admits: (record: VolumeRecord) => boolean,
  left?: AbortSignal,
): Promise<void> {
  const remove = async (): Promise<void> => {
    const holder = context.state.volumes.get(name);
    const record = holder !== undefined && admits(holder) ? holder : undefined;
    if (record === undefined || !isMade(record)) {
      if (record?.phase === Phase.CREATING && !isMounted(context, name)) {
        await finishRemoval(context, record); // It may exist although its creation failed.
      }
      if (force) {
        return;
      }
      throw notFound(`get ${name}: no such volume`);
    }
    refuseUsed(context, name, force);
    await context.state.commit((change) => change.volumes.put({ ...record, phase: Phase.REMOVING }));
    try {
      await finishRemoval(context, record, force);
    } catch (error) {
      throwIfShuttingDown(context, error);
      // Subpaths may be gone: each is searched for at the next removal, and recreated for the next mount.
      const parts = record.parts.map(({ subpath }) => create(VolumePartSchema, { subpath }));
      await context.state.commit((change) => change.volumes.put({ ...record, parts }));
      throw error;
    }
  };
  await context.volumeLocks.run(name, remove, left);
}

/** Finishes a volume's journalled creation or removal after a crash; does nothing if there is none. */
export async function settleVolume(context: EngineContext, name: string): Promise<void> {
  await context.volumeLocks.run(name, () => settleLocked(context, name));
}

/** Removes a volume of a container whose creation failed, whatever its own state. */
export async function discardVolume(context: EngineContext, record: VolumeRecord): Promise<void> {
  await context.volumeLocks.run(record.name, () => finishRemoval(context, record));
}

/** With the volume's lock held. */
async function settleLocked(context: EngineContext, name: string): Promise<void> {
  const record = context.state.volumes.get(name);
  if (record === undefined || isMade(record)) {
    return;
  }
  if (record.phase === Phase.CREATING && (!record.anonymous || isMounted(context, name))) {
    await finishCreation(context, record);
  } else {
    await finishAskedRemoval(context, record);
  }
}

/** Whether a container mounts it: such a volume was made, and a damaged database has lost the end of its creation. */
function isMounted({ state }: EngineContext, name: string): boolean {
  return usersOf(state, name).length > 0;
}

/**
 * Removes a volume that is no longer visible. That it may be removed was checked before, so a conflict means that it
 * stays in use for longer than the driver waits: it is then removed by force, except what a user of the volume still
 * refers to.
 */
async function finishAskedRemoval(context: EngineContext, record: VolumeRecord): Promise<void> {
  try {
    await finishRemoval(context, record);
  } catch (error) {
    if (!isErrorKind(error, "conflict")) {
      throw error;
    }
    await finishRemoval(context, record, true);
  }
}

/**
 * Settles a creation that an earlier process began, before the volume's name is used: a created volume is not created
 * twice, and a failed creation does not occupy the name. With the volume's lock held.
 */
async function settleForReuse(context: EngineContext, name: string): Promise<void> {
  try {
    await settleLocked(context, name);
  } catch (error) {
    throwIfShuttingDown(context, error);
    const record = context.state.volumes.get(name);
    if (record?.phase !== Phase.CREATING || error instanceof UnsettledError || isMounted(context, name)) {
      throw error;
    }
    context.logger.warn({ err: error, volume: name }, "a volume whose creation was cut off cannot be made");
    await finishRemoval(context, record);
  }
}

/** Checks with the driver whether an existing volume matches other options. @throws conflict */
async function refuseOther(
  { driver }: EngineContext,
  known: VolumeRecord,
  { options }: WantedVolume,
): Promise<void> {
  const said = Object.entries(options);
  if (said.some(([name, value]) => ownValue(known.options, name) !== value)) {
    await driver.volumes.create({ ...known, options: { ...options } });
  }
}

async function finishCreation(
  context: EngineContext,
  planned: VolumeRecord,
  use?: VolumeOwner["use"],
): Promise<VolumeRecord> {
  const { name, driver } = planned;
  const record = await madeVolume(context, planned);
  await context.state.commit((change) => {
    change.volumes.put(record);
    use?.(change, record);
    change.event({ type: "volume", action: "create", actorId: name, attributes: { driver } });
  }, "under-way");
  return record;
}

/** Has the driver create a volume, or find one of an earlier attempt. @returns its record. @throws as the driver */
export async function madeVolume({ driver }: EngineContext, planned: VolumeRecord): Promise<VolumeRecord> {
  const { reference, mountpoint, status } = await driver.volumes.create(planned);
  return {
    ...planned,
    phase: Phase.UNSPECIFIED,
    driverReference: reference,
    mountpoint,
    status: { ...status },
  };
}

async function finishRemoval(context: EngineContext, record: VolumeRecord, force = false): Promise<void> {
  const wasMade = context.state.volumes.get(record.name)?.phase !== Phase.CREATING;
  await context.driver.volumes.remove(record, force);
  await context.state.commit((change) => {
    change.volumes.delete(record.name);
    if (wasMade) {
      change.event({
        type: "volume",
        action: "destroy",
        actorId: record.name,
        attributes: { driver: record.driver },
      });
    } // No client got the result of an interrupted creation.
  });
}

function refuseUsed(context: EngineContext, name: string, force: boolean): void {
  const { rules } = context.driver.volumes;
  const users = usersOf(
    context.state,
    name,
    (record) => rules.usedBy !== "running" || isUpOrComing(context, record),
  );
  if (users.length > 0 && !(force && rules.forceOnUsed === "remove")) {
    throw conflict(rules.inUseMessage ?? `remove ${name}: volume is in use - [${users.join(", ")}]`);
  }
}
