/** The next step of a build, in the place of a container's last. */
import { conflict, notImplemented } from "../../../../../common/errors.ts";
import type { NextStep } from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { configOf, isNew, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { commandOf, mergeConfig } from "../decisions/config/merge-config.ts";

/**
 * The record of a container that is to run another command, as one of another image.
 *
 * @throws not-implemented: this backend runs each step in a container of its own; conflict: it is no container of a build that
 *   has ended; not-found: the image; invalid: no command
 */
export async function withNextStep(
  { driver, images }: Pick<EngineContext, "driver" | "images">,
  record: ContainerRecord,
  { image, config }: NextStep,
): Promise<ContainerRecord> {
  const own = configOf(record);
  if (!driver.launches.continuesRuns) {
    throw notImplemented(`the ${driver.name} backend does not continue runs`);
  }
  if (!isOfBuild(own.labels) || isNew(record) || config === undefined) {
    throw conflict(`container ${record.id} has no step of a build that could be followed by another`);
  }
  const { cmd, entrypoint, env, user, workingDir } = config;
  const resolved = await images.resolve(image);
  const merged = mergeConfig({ ...own, cmd, entrypoint, env, user, workingDir }, resolved.config);
  const { path, args } = commandOf(merged);
  const { id, diffIds } = resolved.record;
  return withFields(record, { config: merged, imageId: id, layerDiffIds: diffIds, path, args });
}
