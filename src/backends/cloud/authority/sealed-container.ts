/** Content of a seal: a container's record and its images, up to a size limit. */
import { create } from "@bufbuild/protobuf";

import {
  type ContainerRecord,
  type ImageRecord,
  type SealedContainer,
  SealedContainerSchema,
  type SealedImage,
  SealedImageSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ImageDocuments } from "../../images/image-documents.ts";

/**
 * Reads an image's documents.
 *
 * @returns undefined if they are gone or exceed the limit
 */
export type DocumentsOfImage = (image: ImageRecord, mostBytes: number) => Promise<ImageDocuments | undefined>;

/** Maximum bytes of documents of all images together; one image has a few KiB. */
const mostImageBytes = 1024 * 1024;

/** The record with the images whose documents exist. */
export async function sealedContainerOf(
  container: ContainerRecord,
  images: readonly ImageRecord[],
  documentsOf: DocumentsOfImage,
): Promise<SealedContainer> {
  const kept: SealedImage[] = [];
  let left = mostImageBytes;
  for (const record of new Map(images.map((image) => [image.id, image])).values()) {
    const documents = await documentsOf(record, left);
    if (documents !== undefined) {
      left -= documents.config.length + documents.manifest.length;
      kept.push(create(SealedImageSchema, { record, ...documents }));
    }
  }
  return create(SealedContainerSchema, { container, images: kept });
}
