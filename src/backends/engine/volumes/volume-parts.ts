/** Subpaths of volumes that containers mount, for drivers that must create something for each. */
import { create } from "@bufbuild/protobuf";

import { notFound, systemError } from "../../../common/errors.ts";
import {
  type ContainerRecord,
  type VolumePart,
  VolumePartSchema,
  type VolumeRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { mountSettingsOf } from "../containers/decisions/mounts/plan-mounts.ts";
import { volumeOfMount } from "../../model/volume-of-mount.ts";
import { isMade } from "./decisions/volumes.ts";

/**
 * Has the driver create what a starting container needs to mount subpaths of volumes. Each creation is journalled
 * beforehand, so that it is removed with its volume in any case. One that misses its time limit is finished in the
 * background, for the next start.
 *
 * @throws not-found: the volume is gone; system: the driver's time limit has passed; the driver's errors
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
  const settings = mountSettingsOf(record);
  for (const { type, name, destination } of record.mounts) {
    const subpath = type === "volume" ? settings.subpathAt(destination) : "";
    if (subpath !== "") {
      await context.volumeLocks.run(name, async () => {
        if (!over.aborted) {
          await ensurePart(context, record, name, subpath, createPart);
        }
      });
    }
  }
}

/** Creates a subpath of a volume, as in {@link VolumeParts}. */
type CreatePart = (record: VolumeRecord, subpath: string) => Promise<string>;

/** With the volume's lock held. */
async function ensurePart(
  context: EngineContext,
  record: ContainerRecord,
  name: string,
  subpath: string,
  createPart: CreatePart,
): Promise<void> {
  const volume = volumeOfMount(context.state, record, name);
  if (volume === undefined || !isMade(volume)) {
    throw notFound(`get ${name}: no such volume`);
  }
  const others = volume.parts.filter((part) => part.subpath !== subpath);
  if (volume.parts.some((part) => part.subpath === subpath && part.driverReference !== "")) {
    return;
  }
  const write = (parts: VolumePart[]): Promise<void> =>
    context.state.commit((change) => change.volumes.put({ ...volume, parts }));
  await write([...others, create(VolumePartSchema, { subpath })]);
  // A failed creation may still have taken effect: its entry stays, so that the removal looks for it.
  const driverReference = await createPart(volume, subpath);
  await write([...others, create(VolumePartSchema, { subpath, driverReference })]);
}
