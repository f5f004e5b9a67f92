/** Selection among the manifests of an index. */
import { create } from "@bufbuild/protobuf";

import { type Platform, PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { Descriptor } from "./manifest.ts";
import { hostPlatform, platformDistance } from "./platform.ts";

/**
 * The entry of an index that best fits a platform; undefined if none does. An entry without a platform fits any, but
 * ranks after those with one; entries for no platform (attestations: `unknown/unknown`) fit none.
 */
export function choosePlatform(
  descriptors: readonly Descriptor[],
  wanted: Platform | undefined,
): Descriptor | undefined {
  let best: Descriptor | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const descriptor of descriptors) {
    const distance = distanceTo(descriptor, wanted ?? hostPlatform());
    if (distance !== undefined && distance < bestDistance) {
      best = descriptor;
      bestDistance = distance;
    }
  }
  return best;
}

function distanceTo(descriptor: Descriptor, wanted: Platform): number | undefined {
  const { platform } = descriptor;
  if (platform === null || platform === undefined || (platform.os === "" && platform.architecture === "")) {
    return Number.MAX_SAFE_INTEGER;
  }
  const { os, architecture, variant } = platform;
  return platformDistance(wanted, create(PlatformSchema, { os, architecture, variant: variant ?? "" }));
}
