/** `docker images`: which images a listing shows, and with which details. Pure: all lookups are passed in. */
import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { parseMoment } from "../../common/moments.ts";
import {
  type ImageSummary,
  ImageSummarySchema,
  type ListImagesRequest,
} from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { Filters } from "../model/filters.ts";
import { millisecondsOf, sortedByTime } from "../model/records.ts";
import type { LayerStack } from "../state/layer-stacks.ts";
import { StepPace } from "../concurrency/step-pace.ts";
import { fileSteps } from "./file-tree.ts";
import { globMatcher } from "./glob.ts";
import type { ImageConfig } from "./image-config.ts";
import { familiarForms } from "./reference.ts";

/** An image with its configuration and the number of its containers. */
export interface ListedImage {
  readonly record: ImageRecord;
  readonly config: ImageConfig;
  readonly containers: number;
  /** ID of the image that it was committed on; empty if none, or deleted. */
  readonly parentId: string;
  /** True if others were committed on it. */
  readonly isParent: boolean;
}

/** Time and lookups for a listing. */
export interface ListingContext {
  readonly nowMs: number;
  /** Ends the listing with its reason. */
  readonly signal: AbortSignal;
  /** The image named in a `before` or `since` filter; throws not-found. */
  find(reference: string): Pick<ListedImage, "config">;
  /** The stacks that an image's layers top, bottom first. */
  stacksOf(record: ImageRecord): readonly LayerStack[];
}

const acceptedFilters = ["dangling", "label", "before", "since", "reference", "until"];

/**
 * The summaries of a listing, newest first. Other calls have their turns meanwhile, as there may be hundreds of
 * thousands of names.
 *
 * @throws invalid: an unknown filter or value; not-found: an unknown image in `before` or `since`; the signal's
 *   reason
 */
export async function listImages(
  images: readonly ListedImage[],
  request: ListImagesRequest,
  context: ListingContext,
): Promise<ImageSummary[]> {
  const filters = new Filters(request.filters, acceptedFilters);
  const dangling = filters.boolean("dangling");
  const isInTime = timeWindow(filters, context);
  const patterns = filters.get("reference");
  const matches = patterns.length === 0 ? () => true : globMatcher(patterns);
  const references = (of: readonly string[]): string[] => matchingReferences(of, matches);
  const sharing = request.sharedSize ? sharedSizes(images, context) : undefined;

  const pace = new StepPace(fileSteps, context.signal);
  const named: { image: ListedImage; tags: string[]; digests: string[] }[] = [];
  for (const image of images) {
    if (isInTime(image) && filters.matchesPairs("label", image.config.config.labels)) {
      const { names, digests } = image.record;
      await pace.spend(names.length + digests.length);
      named.push({ image, tags: references(names), digests: references(digests) });
    }
  }
  const listed = named.filter(({ image, tags, digests }) => {
    const isNamed = tags.length > 0 || digests.length > 0;
    if (image.isParent && (dangling === true || (!isNamed && !request.all))) {
      return false; // An intermediate image.
    }
    return isNamed ? dangling !== true || tags.length === 0 : dangling !== false && !filters.has("reference");
  });
  return sortedByTime(listed, "newest first", ({ image }) => image.config.created).map(
    ({ image, tags, digests }) =>
      create(ImageSummarySchema, {
        id: image.record.id,
        repoTags: tags,
        repoDigests: digests,
        ...(image.config.created === undefined ? {} : { created: image.config.created }),
        size: image.record.size,
        ...(sharing === undefined ? {} : { sharedSize: sharing(image.record) }),
        labels: image.config.config.labels,
        containers: BigInt(image.containers),
        parentId: image.parentId,
        ofBuild: image.record.ofBuild,
      }),
  );
}

/** Familiar names that match one of the patterns, with or without the tag. */
function matchingReferences(references: readonly string[], matches: (text: string) => boolean): string[] {
  return references
    .map(familiarForms)
    .filter(({ text, name }) => matches(text) || matches(name))
    .map(({ text }) => text);
}

/**
 * Selects images older than every `before` and `until` and newer than every `since`; an image without a time is
 * neither.
 */
function timeWindow(filters: Filters, context: ListingContext): (image: ListedImage) => boolean {
  const createdMs = (reference: string): number[] => {
    const { created } = context.find(reference).config;
    return created === undefined ? [] : [preciseMs(created)];
  };
  const before = [
    ...filters.get("before").flatMap(createdMs),
    ...filters.get("until").map((value) => parseMoment(value, context.nowMs)),
  ];
  const since = filters.get("since").flatMap(createdMs);
  return ({ config: { created } }) => {
    if (before.length === 0 && since.length === 0) {
      return true;
    }
    const time = created === undefined ? undefined : preciseMs(created);
    return time !== undefined && before.every((each) => time < each) && since.every((each) => time > each);
  };
}

function preciseMs(timestamp: Timestamp): number {
  return millisecondsOf(timestamp) + (timestamp.nanos % 1e6) / 1e6;
}

/** Bytes of the layers that an image has in common with another listed one. */
function sharedSizes(
  images: readonly ListedImage[],
  { stacksOf }: ListingContext,
): (record: ImageRecord) => bigint {
  const uses = new Map<LayerStack, number>();
  for (const { record } of images) {
    for (const stack of stacksOf(record)) {
      uses.set(stack, (uses.get(stack) ?? 0) + 1);
    }
  }
  return (record) =>
    stacksOf(record)
      .map((stack, index) => ((uses.get(stack) ?? 0) > 1 ? (record.layerSizes[index] ?? 0n) : 0n))
      .reduce((sum, size) => sum + size, 0n);
}
