/** The archive of `docker save`: `manifest.json` lists images and the names of their parts. */
import { isDeepStrictEqual } from "node:util";

import * as v from "valibot";

import { object } from "../../common/documents.ts";
import { invalid } from "../../common/errors.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ArchiveFiles } from "./archive-reader.ts";
import {
  type ArchiveContext,
  type ArchivedImage,
  refuseTooManyImages,
  refuseTooManyNames,
} from "./archived-image.ts";
import type { StoredBlob } from "./content-store.ts";
import { type HistoryEntry, parseNewImageConfig } from "./image-config.ts";
import { check, mostListValues, parseJson } from "./manifest.ts";
import { platformDistance } from "./platform.ts";
import { canonicalString, parseNamed } from "./reference.ts";

const itemSchema = object({
  Config: v.string(),
  RepoTags: v.nullish(v.array(v.string())),
  Layers: v.nullish(v.array(v.string())),
  Parent: v.nullish(v.string()),
});

/**
 * The images in a docker archive that have the platform.
 *
 * @throws SockerlessError of kind `invalid` in moby's words
 */
export async function readDockerArchive(
  files: ArchiveFiles,
  manifest: StoredBlob,
  context: ArchiveContext,
): Promise<ArchivedImage[]> {
  const json = parseJson(await context.readDocument(manifest), "manifest", mostListValues);
  if (json === null) {
    throw invalid("invalid manifest, manifest cannot be null (but can be [])");
  }
  const items = check(v.array(itemSchema), json, "manifest");
  refuseTooManyImages(items.length);
  refuseTooManyNames(items.reduce((sum, { RepoTags }) => sum + (RepoTags?.length ?? 0), 0));
  const images: ArchivedImage[] = [];
  for (const item of items) {
    const configBlob = files.get(item.Config);
    const config = parseNewImageConfig(await context.readDocument(configBlob));
    if (!hasPlatform(config.platform, context.platform)) {
      continue;
    }
    const names = item.Layers ?? [];
    if (names.length !== config.diffIds.length) {
      throw invalid(
        `invalid manifest, layers length mismatch: expected ${names.length}, got ${config.diffIds.length}`,
      );
    }
    const layers: ArchivedImage["layers"][number][] = [];
    for (const [index, name] of names.entries()) {
      const blob = files.find(name) ?? (await context.findLayer(config.diffIds[index] ?? "", config.diffIds));
      layers.push(blob ?? files.get(name));
    }
    images.push({
      config,
      configBlob,
      layers,
      names: (item.RepoTags ?? []).map(loadedName),
      ...(item.Parent ? { parentId: item.Parent } : {}),
    });
  }
  const byId = new Map(images.map((image) => [image.configBlob.digest, image]));
  return images.map((image) => withCheckedParent(image, byId));
}

/** Drops a parent missing in the archive. @throws invalid if the archive has it, but the image is not based on it */
function withCheckedParent(image: ArchivedImage, images: ReadonlyMap<string, ArchivedImage>): ArchivedImage {
  const { parentId, ...others } = image;
  const parent = images.get(parentId ?? "");
  if (parent === undefined) {
    return others;
  }
  if (!isStepAfter(image.config.history, parent.config.history)) {
    throw invalid(`ID ${parentId} is not a valid parent for ${image.configBlob.digest}`);
  }
  return image;
}

/** Whether a history consists of another one plus one step. */
function isStepAfter(history: readonly HistoryEntry[], earlier: readonly HistoryEntry[]): boolean {
  return history.length === earlier.length + 1 && isDeepStrictEqual(history.slice(0, -1), earlier);
}

function hasPlatform(offered: Platform, wanted: Platform | undefined): boolean {
  return wanted === undefined || platformDistance(wanted, offered) !== undefined;
}

function loadedName(text: string): string {
  const named = parseNamed(text);
  if (named.tag === undefined) {
    throw invalid(`invalid tag "${text}"`);
  }
  return canonicalString(named);
}
