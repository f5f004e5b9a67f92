/** `docker image inspect`: all details of an image. */
import { create } from "@bufbuild/protobuf";

import { type ImageDetail, ImageDetailSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImageConfig } from "./image-config.ts";
import { familiarForms } from "./reference.ts";

/** The description of an image. */
export function describeImage(
  record: ImageRecord,
  config: ImageConfig,
  parentId: string,
  driver: string,
): ImageDetail {
  return create(ImageDetailSchema, {
    id: record.id,
    repoTags: record.names.map((name) => familiarForms(name).text),
    repoDigests: record.digests.map((digest) => familiarForms(digest).text),
    ...(config.created === undefined ? {} : { created: config.created }),
    comment: config.comment,
    author: config.author,
    dockerVersion: config.dockerVersion,
    platform: config.platform,
    osVersion: config.osVersion,
    size: record.size,
    config: config.config,
    diffIds: record.diffIds,
    ...(record.lastTagged === undefined ? {} : { lastTagged: record.lastTagged }),
    driver,
    parentId,
  });
}
