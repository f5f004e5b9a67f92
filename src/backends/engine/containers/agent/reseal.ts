/** Keeps the records that agents store of their containers up to date, for a backend that loses its state. */
import { messageOf } from "../../../../common/errors.ts";
import type { ContainerRecord, ImageRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { imageRecordOf } from "../decisions/mounts/image-mounts.ts";
import { hasProcess } from "../../../model/records.ts";

/** Time limit of a call; an agent that misses it is updated at the next change, and by the next backend. */
const timeoutMs = 2_000;

/**
 * Sends a running container's current record to its agent. Does nothing if the driver's agents store none or the
 * container does not run; failures are only logged.
 */
export async function reseal(context: EngineContext, containerId: string): Promise<void> {
  const { driver, logger } = context;
  const link = context.live.peek(containerId)?.link;
  if (link === undefined) {
    return;
  }
  try {
    // Sequential, so that the last one sent is the latest.
    await link.sealing.run(async () => {
      const record = context.state.containers.get(containerId);
      if (record === undefined || link.generation !== record.generation || !hasProcess(record)) {
        return;
      }
      const sealed = await driver.seals.seal(record, imagesOf(context, record));
      if (sealed === undefined) {
        return;
      }
      await link.agent.client.reseal(
        { generation: record.generation, ...sealed },
        { timeoutMs, signal: link.ended.signal },
      );
    });
  } catch (error) {
    if (link.ended.signal.aborted) {
      return; // It has ended meanwhile.
    }
    logger.warn(
      { err: error, container: containerId },
      `a container's agent does not keep how the container is now: ${messageOf(error)}`,
    );
  }
}

function imagesOf({ state: { images } }: EngineContext, record: ContainerRecord): ImageRecord[] {
  return [
    imageRecordOf(images, record, record.imageId, record.layerDiffIds),
    ...record.imageMounts.map((mount) => imageRecordOf(images, record, mount.imageId, mount.layerDiffIds)),
  ];
}
