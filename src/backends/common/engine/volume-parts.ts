/** Directories of volumes that containers mount apart from the whole, where the driver needs something for each. */
import { create } from "@bufbuild/protobuf";

import {
  type ContainerRecord,
  type VolumePart,
  VolumePartSchema,
  type VolumeRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "./context.ts";
import { subpathAt } from "./mounts/plan-mounts.ts";
import { findVolume } from "./volumes.ts";

/**
 * Has the driver make what a container that starts needs to mount parts of volumes. That one is being made is journalled
 * before, so that it goes with its volume whatever happens.
 *
 * @throws not-found: the volume has gone; what the driver throws
 */
export async function ensureVolumeParts(context: EngineContext, record: ContainerRecord): Promise<void> {
  const { createPart } = context.driver.volumes;
  if (createPart === undefined) {
    return;
  }
  for (const { type, name, destination } of record.mounts) {
    const subpath = type === "volume" ? subpathAt(record, destination) : "";
    if (subpath !== "") {
      await context.volumeLocks.run(name, () => ensurePart(context, name, subpath, createPart));
    }
  }
}

/** With the volume's lock held. */
async function ensurePart(
  context: EngineContext,
  name: string,
  subpath: string,
  createPart: (record: VolumeRecord, subpath: string) => Promise<string>,
): Promise<void> {
  const volume = findVolume(context.state, name);
  const others = volume.parts.filter((part) => part.subpath !== subpath);
  if (volume.parts.some((part) => part.subpath === subpath && part.driverReference !== "")) {
    return;
  }
  const write = (parts: VolumePart[]): Promise<void> =>
    context.state.commit((change) => change.volumes.put({ ...volume, parts }));
  await write([...others, create(VolumePartSchema, { subpath })]);
  // What fails may be there all the same: the part stays without a reference, by which a removal looks for it.
  const driverReference = await createPart(volume, subpath);
  await write([...others, create(VolumePartSchema, { subpath, driverReference })]);
}
