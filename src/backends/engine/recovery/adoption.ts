/**
 * Adopts existing resources that the state does not know: rebuilds a lost state directory from what the driver finds of
 * this instance. Volumes and networks come first, because containers refer to them.
 */
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";

import { messageOf } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import {
  type ContainerRecord,
  Phase,
  type SealedImage,
  type VolumeRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundWorkload } from "../../driver/workloads.ts";
import { withFields } from "../../model/records.ts";
import type { EngineContext } from "../context.ts";
import { builtinNetworks } from "../networks/decisions/networks.ts";
import { madeVolume } from "../volumes/volumes.ts";
import { throwIfShuttingDown } from "../work/shutting-down.ts";

/**
 * Determines which resources can have been lost before this start. Those that the state knew then, or that were created
 * since, do not count: they may have been removed while the driver searched.
 */
export class LostState {
  readonly #known: ReadonlySet<string>;
  readonly #beganMs: number;

  constructor({ state, clock }: EngineContext) {
    // One that was only being created is lost if it has run, as by a backup that was made then.
    const made = [...state.containers.values()].filter(({ phase }) => phase !== Phase.CREATING);
    this.#known = new Set([...state.networks.keys(), ...state.volumes.keys(), ...made.map(({ id }) => id)]);
    this.#beganMs = clock.nowMs();
  }

  /** @param created undefined if unknown */
  mayHaveLost(id: string, created: Timestamp | undefined): boolean {
    return !this.#known.has(id) && (created === undefined || timestampMs(created) < this.#beganMs);
  }
}

/** Adopts networks. One whose name is taken is reported and left alone. */
export async function adoptNetworks(
  { driver, state, logger }: EngineContext,
  lost: LostState,
): Promise<void> {
  for (const record of await driver.networks.found()) {
    const { id, name, created } = record.network ?? { id: "", name: "" };
    if (state.networks.has(id) || !lost.mayHaveLost(id, created)) {
      continue;
    }
    if (state.networks.named(name) !== undefined) {
      logger.warn(
        { network: id },
        `a network ${name} exists that is not the one of the state; it is left alone`,
      );
      continue;
    }
    await state.commit((change) => change.networks.put(record));
    logger.info({ network: id }, `network ${name} is taken over`);
  }
}

/** Adopts volumes. */
export async function adoptVolumes(context: EngineContext, lost: LostState): Promise<void> {
  for (const record of await context.driver.volumes.found()) {
    await context.volumeLocks.run(record.name, () => adoptVolume(context, lost, record));
  }
}

/**
 * Adopts a volume. It is never recorded as being created, because a failed creation would remove it: one that cannot be
 * used now is left alone.
 */
async function adoptVolume(context: EngineContext, lost: LostState, record: VolumeRecord): Promise<void> {
  const { state, logger } = context;
  const { name, created } = record;
  if (state.volumes.has(name) || !lost.mayHaveLost(name, created)) {
    return;
  }
  let taken = record;
  try {
    taken = record.phase === Phase.CREATING ? await madeVolume(context, record) : record;
  } catch (error) {
    throwIfShuttingDown(context, error);
    logger.warn(
      { err: error, volume: name },
      `volume ${name} cannot be taken over: ${messageOf(error)}; it is left alone`,
    );
    return;
  }
  await state.commit((change) => change.volumes.put(taken), "happened");
  logger.info({ volume: name }, `volume ${name} is taken over`);
}

/**
 * Adopts containers whose agents answer, and their images. One whose name is taken, as after the restore of a backup that has
 * its predecessor, gets another: unnamed it would run unseen. Their records are those of runs, or of starts in progress:
 * resuming such a start finds the run, since a generation is started only once.
 */
export async function adoptContainers(
  context: EngineContext,
  lost: LostState,
  found: readonly FoundWorkload[],
): Promise<readonly ContainerRecord[]> {
  const { state, logger } = context;
  const adopted: ContainerRecord[] = [];
  for (const { record: sealed, images = [], agent, containerId } of found) {
    if (sealed === undefined || agent === undefined || state.containers.has(containerId)) {
      continue;
    }
    // The record may be the one with which it was launched; what its client was told of the start is unknown.
    const isTaken = [...state.containers.values()].some(({ name }) => name === sealed.name);
    const name = isTaken ? `${sealed.name}-${shortId(containerId)}` : sealed.name;
    const record = withFields(sealed, { name, startAwaited: false });
    if (!lost.mayHaveLost(containerId, record.created)) {
      continue;
    }
    if (isTaken) {
      logger.warn(
        { container: containerId },
        `a container ${sealed.name} runs that is not the one of the state: it has the name ${name} from now on`,
      );
    }
    for (const image of images) {
      await adoptImage(context, image);
    }
    await state.commit((change) => change.containers.put(record), "happened");
    adopted.push(record);
    const missing = lostWith(context, record);
    if (missing.length === 0) {
      logger.info({ container: containerId }, `container ${record.name} is taken over`);
    } else {
      logger.warn(
        { container: containerId },
        `container ${record.name} is taken over; what nobody knows any more: ${missing.join(", ")}`,
      );
    }
  }
  return adopted;
}

/** Adopts an image; a failure is only logged, because the container runs without it. */
async function adoptImage({ images, logger }: EngineContext, image: SealedImage): Promise<void> {
  const id = image.record?.id;
  try {
    await images.adopt(image);
  } catch (error) {
    logger.error({ err: error, image: id }, `image ${id} cannot be taken over: ${messageOf(error)}`);
  }
}

/** Images, volumes and networks of a container that the state lacks, in words for the log. */
function lostWith({ state }: EngineContext, record: ContainerRecord): string[] {
  const imageIds = new Set([record.imageId, ...record.imageMounts.map(({ imageId }) => imageId)]);
  const volumes = record.mounts.filter(({ type }) => type === "volume").map(({ name }) => name);
  return [
    ...[...imageIds].filter((id) => !state.images.has(id)).map((id) => `image ${id}`),
    ...volumes.filter((name) => !state.volumes.has(name)).map((name) => `volume ${name}`),
    ...Object.entries(record.endpoints)
      .filter(([name, { networkId }]) => !builtinNetworks.has(name) && !state.networks.has(networkId))
      .map(([name]) => `network ${name}`),
  ];
}
