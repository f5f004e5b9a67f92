/** Images in lists and inspects, progress lines, and the results of a removal. */
import { create } from "@bufbuild/protobuf";

import { ContainerConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type {
  ImageDetail,
  ImageHistoryEntry,
  ImageSummary,
  InspectDistributionResponse,
  Progress,
  RemovedImage,
} from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { imageConfigToJson } from "./container-config.ts";
import {
  listOrNull,
  mapOrNull,
  rfc3339Nano,
  unixSeconds,
  unlessEmpty,
  unlessZero,
  zeroTime,
} from "./json-values.ts";

const layerId = /^[0-9a-f]{12}$/;

/** `GET /distribution/{name}/json`. */
export function distributionToJson(image: InspectDistributionResponse): Record<string, unknown> {
  const { mediaType, digest, size, platforms } = image;
  return {
    Descriptor: { mediaType, digest, size },
    Platforms: listOrNull(
      platforms.map(({ architecture, os, variant }) => ({
        architecture,
        os,
        variant: unlessEmpty(variant),
      })),
    ),
  };
}

/** One element of `GET /images/json`. */
export function imageSummaryToJson(summary: ImageSummary, version: ApiVersion): Record<string, unknown> {
  const nameless = summary.repoTags.length === 0 && summary.repoDigests.length === 0;
  const withPlaceholders = nameless && version.before("1.43");
  return {
    Containers: version.before("1.51") ? -1 : summary.containers,
    Created: unixSeconds(summary.created),
    Id: summary.id,
    Labels: mapOrNull(summary.labels),
    ParentId: summary.parentId,
    RepoDigests: withPlaceholders ? ["<none>@<none>"] : summary.repoDigests,
    RepoTags: withPlaceholders ? ["<none>:<none>"] : summary.repoTags,
    SharedSize: summary.sharedSize ?? -1,
    Size: summary.size,
    VirtualSize: version.before("1.44") ? unlessZero(summary.size) : undefined,
  };
}

/** The body of `GET /images/{name}/json`. */
export function imageDetailToJson(detail: ImageDetail, version: ApiVersion): Record<string, unknown> {
  const { platform } = detail;
  const noTime = version.before("1.44") ? zeroTime : undefined;
  return {
    Id: detail.id,
    RepoTags: detail.repoTags,
    RepoDigests: detail.repoDigests,
    Parent: detail.parentId,
    Comment: detail.comment,
    Created: detail.created === undefined ? noTime : rfc3339Nano(detail.created),
    DockerVersion: detail.dockerVersion,
    Author: detail.author,
    Config: imageConfigToJson(detail.config ?? create(ContainerConfigSchema), version.before("1.50")),
    Architecture: platform?.architecture ?? "",
    Variant: unlessEmpty(platform?.variant ?? ""),
    Os: platform?.os ?? "",
    OsVersion: unlessEmpty(detail.osVersion),
    Size: detail.size,
    VirtualSize: version.before("1.44") ? unlessZero(detail.size) : undefined,
    GraphDriver: { Data: mapOrNull(detail.graphDriverData), Name: detail.driver },
    RootFS: { Type: "layers", Layers: detail.diffIds.length === 0 ? undefined : detail.diffIds },
    Metadata: { LastTagTime: rfc3339Nano(detail.lastTagged) },
  };
}

/** One element of `GET /images/{name}/history`. */
export function historyEntryToJson(entry: ImageHistoryEntry): Record<string, unknown> {
  return {
    Comment: entry.comment,
    Created: entry.created?.seconds ?? 0,
    CreatedBy: entry.createdBy,
    Id: entry.id,
    Size: entry.size,
    Tags: listOrNull(entry.tags),
  };
}

/** One line of a pull's, load's or push's progress. */
export function progressToJson(progress: Progress): Record<string, unknown> {
  const { id, status, current, total } = progress;
  const counted = current > 0n || total > 0n;
  // A layer's line always has `progressDetail`, even if empty; a line about the whole image has none.
  const ofLayer = layerId.test(id) && !status.startsWith("Pulling from ");
  return {
    status,
    progressDetail: counted || ofLayer ? progressDetail(current, total) : undefined,
    progress: counted ? progressBar(Number(current), Number(total)) : undefined,
    id: unlessEmpty(id),
  };
}

/** One element of the answer to `DELETE /images/{name}`. */
export function removedImageToJson({ what }: RemovedImage): Record<string, unknown> {
  return what.case === "untagged" ? { Untagged: what.value } : { Deleted: what.value ?? "" };
}

function progressDetail(current: bigint, total: bigint): Record<string, unknown> {
  return { current: unlessZero(current), total: unlessZero(total) };
}

/** A progress bar that old clients print verbatim: "[=====>     ]  1.2MB/3.4MB", fifty columns wide. */
function progressBar(current: number, total: number): string {
  if (total <= 0) {
    return humanSize(current).padStart(8);
  }
  const percent = Math.min(50, Math.trunc((current / total) * 50));
  const bar = `[${"=".repeat(percent)}>${" ".repeat(50 - percent)}]`;
  // A transfer can exceed its announced size; the total is then left out.
  const numbers =
    current > total
      ? humanSize(current).padStart(8)
      : `${humanSize(current).padStart(8)}/${humanSize(total)}`;
  return `${bar} ${numbers}`;
}

/** Decimal units and four significant digits: "1.234MB". */
function humanSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}
