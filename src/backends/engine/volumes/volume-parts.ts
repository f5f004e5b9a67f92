/** Directories of volumes that containers mount apart from the whole, where the driver needs something for each. */
import { create } from "@bufbuild/protobuf";

import { systemError } from "../../../common/errors.ts";
import {
  type ContainerRecord,
  type VolumePart,
  VolumePartSchema,
  type VolumeRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { subpathAt } from "../containers/decisions/mounts/plan-mounts.ts";
import { findVolume } from "./decisions/volumes.ts";

/**
 * Has the driver make what a container that starts needs to mount parts of volumes. That one is being made is journalled
 * before, so that it goes with its volume whatever happens. One that is not made in time is finished behind the failure,
 * for the next start.
 *
 * @throws not-found: the volume has gone; system: it takes longer than the driver allows; what the driver throws
 */
export async function ensureVolumeParts(context: EngineContext, record: ContainerRecord): Promise<void> {
  const { clock, driver } = context;
  const { parts: made } = driver.volumes;
  if (made.kind === "ready") {
    return;
  }
  const { limitMs } = made;
  const over = new AbortController();
  const parts = ensureEach(context, record, made.create, over.signal);
  parts.catch(() => undefined); // Its rejection after the time limit has no other handler.
  const limit =
    limitMs === undefined
      ? undefined
      : clock.sleep(limitMs, over.signal).then(() => {
          throw systemError(`its volumes cannot be mounted: they were not ready within ${limitMs / 1000} s`);
        });
  limit?.catch(() => undefined);
  try {
    await (limit === undefined ? parts : Promise.race([parts, limit]));
  } finally {
    over.abort();
  }
}

async function ensureEach(
  context: EngineContext,
  record: ContainerRecord,
  createPart: CreatePart,
  over: AbortSignal,
): Promise<void> {
  for (const { type, name, destination } of record.mounts) {
    const subpath = type === "volume" ? subpathAt(record, destination) : "";
    if (subpath !== "") {
      await context.volumeLocks.run(name, async () => {
        if (!over.aborted) {
          await ensurePart(context, name, subpath, createPart);
        }
      });
    }
  }
}

/** Function that makes a part of a volume, as {@link VolumeParts} has it. */
type CreatePart = (record: VolumeRecord, subpath: string) => Promise<string>;

/** With the volume's lock held. */
async function ensurePart(
  context: EngineContext,
  name: string,
  subpath: string,
  createPart: CreatePart,
): Promise<void> {
  const volume = findVolume(context.state, name);
  const others = volume.parts.filter((part) => part.subpath !== subpath);
  if (volume.parts.some((part) => part.subpath === subpath && part.driverReference !== "")) {
    return;
  }
  const write = (parts: VolumePart[]): Promise<void> =>
    context.state.commit((change) => change.volumes.put({ ...volume, parts }));
  await write([...others, create(VolumePartSchema, { subpath })]);
  // A creation that fails may have made the part all the same: its entry stays, for a removal to look for it.
  const driverReference = await createPart(volume, subpath);
  await write([...others, create(VolumePartSchema, { subpath, driverReference })]);
}
