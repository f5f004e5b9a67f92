/**
 * Taking over what exists and the state does not know: a state directory that was lost is rebuilt from what the driver
 * finds of this instance. Volumes and networks come first, because containers name them.
 */
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { ContainerRecord, SealedImage } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundWorkload } from "../driver.ts";
import type { EngineContext } from "./context.ts";
import { builtinNetworks } from "./network/networks.ts";

/** Takes over networks. One whose name is taken is reported and left. */
export async function adoptNetworks({ driver, state, logger }: EngineContext): Promise<void> {
  for (const record of await whatIsFound("networks", () => driver.networks.found?.(), logger)) {
    const { id, name } = record.network ?? { id: "", name: "" };
    if (state.networks.has(id)) {
      continue;
    }
    if ([...state.networks.values()].some(({ network }) => network?.name === name)) {
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

/** A driver that cannot look for what was lost keeps nobody from what the state knows. */
async function whatIsFound<T>(
  what: string,
  find: () => Promise<readonly T[]> | undefined,
  logger: Logger,
): Promise<readonly T[]> {
  try {
    return (await find()) ?? [];
  } catch (error) {
    logger.error({ err: error }, `cannot look for ${what} that the state does not know: ${messageOf(error)}`);
    return [];
  }
}

/** Takes over volumes. */
export async function adoptVolumes({ driver, state, logger }: EngineContext): Promise<void> {
  for (const record of await whatIsFound("volumes", () => driver.volumes.found?.(), logger)) {
    if (!state.volumes.has(record.name)) {
      await state.commit((change) => change.volumes.put(record));
      logger.info({ volume: record.name }, `volume ${record.name} is taken over`);
    }
  }
}

/**
 * Takes over containers whose agents answer, and their images. Their records are those of runs, or of starts under way:
 * taking such a start up again finds the run, since a start of one generation happens once.
 */
export async function adoptContainers(
  context: EngineContext,
  found: readonly FoundWorkload[],
): Promise<void> {
  const { state, logger } = context;
  for (const { record, images = [], agent, containerId } of found) {
    if (record === undefined || agent === undefined || state.containers.has(containerId)) {
      continue;
    }
    if ([...state.containers.values()].some(({ name }) => name === record.name)) {
      logger.warn(
        { container: containerId },
        `a container ${record.name} runs that is not the one of the state`,
      );
      continue;
    }
    for (const image of images) {
      await adoptImage(context, image);
    }
    await state.commit((change) => change.containers.put(record));
    const lost = lostWith(context, record);
    if (lost.length === 0) {
      logger.info({ container: containerId }, `container ${record.name} is taken over`);
    } else {
      logger.warn(
        { container: containerId },
        `container ${record.name} is taken over; what nobody knows any more: ${lost.join(", ")}`,
      );
    }
  }
}

/** A container runs on, whatever becomes of its image. */
async function adoptImage({ images, logger }: EngineContext, image: SealedImage): Promise<void> {
  const id = image.record?.id;
  try {
    await images.adopt(image);
  } catch (error) {
    logger.error({ err: error, image: id }, `image ${id} cannot be taken over: ${messageOf(error)}`);
  }
}

/** What a container names and the state does not have. */
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
