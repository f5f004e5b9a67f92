/** Content of a seal: a container's record, and the images it needs, as far as an agent can keep them. */
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
 * @returns undefined: they are gone, or have more bytes than that
 */
export type DocumentsOfImage = (image: ImageRecord, mostBytes: number) => Promise<ImageDocuments | undefined>;

/** Most bytes of documents that an agent keeps, of all images together: those of one have a few KiB. */
const mostImageBytes = 1024 * 1024;

/** The record with those of the images whose documents there are. */
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
