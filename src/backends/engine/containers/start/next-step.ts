/** Runs the next step of a build in the container of the last one. */
import { conflict, invalid } from "../../../../common/errors.ts";
import type { NextStep } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { configOf, isNew, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { commandOf, mergeConfig, refuseLargeImage } from "../decisions/config/merge-config.ts";

/** A container's next step. */
export interface Continued {
  /** The container, with the image and command of the step. */
  readonly record: ContainerRecord;
  /** Number of that image's topmost layers that its files lack. */
  readonly missingLayers: number;
}

/**
 * The record of a container that is to run another command, with another image.
 *
 * @throws conflict: not a container of a build, or it has not ended; not-found: an image; invalid: no command, or an image
 *   that is not based on the last one
 */
export async function withNextStep(
  { driver, images }: Pick<EngineContext, "driver" | "images">,
  record: ContainerRecord,
  { image, config, committed }: NextStep,
): Promise<Continued> {
  const own = configOf(record);
  if (!isOfBuild(own.labels) || isNew(record) || config === undefined) {
    throw conflict(`container ${record.id} has no step of a build that could be followed by another`);
  }
  const { cmd, entrypoint, env, user, workingDir } = config;
  const resolved = await images.resolve(image);
  refuseLargeImage(resolved.config);
  const merged = mergeConfig({ ...own, cmd, entrypoint, env, user, workingDir }, resolved.config);
  const { path, args } = commandOf(merged);
  const { id, diffIds } = resolved.record;
  const had = committed === "" ? diffIds : (await images.resolve(committed)).record.diffIds;
  if (had.some((layer, at) => layer !== diffIds[at])) {
    throw invalid(`image ${image} does not stand on ${committed}`);
  }
  return {
    record: withFields(record, { config: merged, imageId: id, layerDiffIds: diffIds, path, args }),
    missingLayers: driver.launches.steps.kind === "in-its-files" ? diffIds.length - had.length : 0,
  };
}
