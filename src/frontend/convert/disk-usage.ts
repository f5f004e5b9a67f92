/** The body of `GET /system/df`. */
import type { GetDiskUsageResponse } from "../../gen/sockerless/backend/v1/system_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { containerSummaryToJson } from "./containers.ts";
import { imageSummaryToJson } from "./images.ts";
import { volumeToJson } from "./volumes.ts";

/**
 * Its lists are iterators, which make an object when it is written.
 *
 * @param buildCache as the builder reports it
 * @param wants the requested types; all others are `null`
 */
export function diskUsageToJson(
  usage: GetDiskUsageResponse,
  buildCache: readonly unknown[],
  wants: (type: string) => boolean,
  version: ApiVersion,
): Record<string, unknown> {
  const now = Date.now();
  return {
    LayersSize: usage.layersSize,
    Images: wants("image")
      ? usage.images
          .values()
          .map((image) => ({ ...imageSummaryToJson(image, version), Containers: image.containers }))
      : null,
    Containers: wants("container")
      ? usage.containers.values().map((container) => containerSummaryToJson(container, version, now))
      : null,
    Volumes: wants("volume")
      ? usage.volumes.values().map(({ volume, size, referenceCount }) => ({
          ...(volume === undefined ? {} : volumeToJson(volume)),
          UsageData: { RefCount: referenceCount, Size: size },
        }))
      : null,
    BuildCache: wants("build-cache") ? buildCache : null,
  };
}
