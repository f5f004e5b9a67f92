/** `docker system df`. */
import { create } from "@bufbuild/protobuf";

import { invalid } from "../../../common/errors.ts";
import {
  type GetDiskUsageResponse,
  GetDiskUsageResponseSchema,
} from "../../../gen/sockerless/backend/v1/system_pb.ts";
import type { EngineContext } from "../context.ts";
import { ContainerNames } from "../containers/decisions/links/link-names.ts";
import { summaryOf } from "../containers/list/summary.ts";
import { isVisible } from "../../model/records.ts";
import { sizesOf, volumeSizes } from "./sizes.ts";
import { isKeptHere, listVolumes, usersOf, volumeOf } from "../volumes/decisions/volumes.ts";

const kinds = ["container", "image", "volume"] as const;

/**
 * The usage of the requested kinds of objects.
 *
 * @param requested names of kinds; empty for all
 * @param signal ends measurements
 * @throws invalid: an unknown kind
 */
export async function diskUsageOf(
  context: EngineContext,
  requested: readonly string[],
  signal: AbortSignal,
): Promise<GetDiskUsageResponse> {
  const unknown = requested.find((each) => !kinds.some((kind) => kind === each));
  if (unknown !== undefined) {
    throw invalid(`unknown object type: ${unknown}`);
  }
  const wants = (kind: (typeof kinds)[number]): boolean => requested.length === 0 || requested.includes(kind);
  const [containers, volumes] = await Promise.all([
    wants("container") ? containerUsage(context, signal) : [],
    wants("volume") ? volumeUsage(context, signal) : [],
  ]);
  const images = wants("image")
    ? { layersSize: context.images.layersSize(), images: await context.images.listWithSizes(signal) }
    : {};
  return create(GetDiskUsageResponseSchema, { ...images, containers, volumes });
}

async function containerUsage(context: EngineContext, signal: AbortSignal) {
  const records = [...context.state.containers.values()].filter(isVisible);
  const sizes = await sizesOf(context, records, signal);
  const names = new ContainerNames(context.state);
  return records.map((record) => ({ ...summaryOf(context, record, names), ...sizes.get(record.id) }));
}

async function volumeUsage(context: EngineContext, signal: AbortSignal) {
  const { rules } = context.driver.volumes;
  const records = listVolumes(context.state, {}).filter((record) => isKeptHere(rules, record));
  const sizes = await volumeSizes(
    context,
    records.map(({ name }) => name),
    signal,
  );
  return records.map((record) => ({
    volume: volumeOf(record),
    size: sizes.get(record.name) ?? -1n,
    referenceCount: BigInt(usersOf(context.state, record.name).length),
  }));
}
