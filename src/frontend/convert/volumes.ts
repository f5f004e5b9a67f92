/** Volumes: the body of a create, and their JSON. */
import { create } from "@bufbuild/protobuf";

import {
  type CreateVolumeRequest,
  CreateVolumeRequestSchema,
  type Volume,
} from "../../gen/sockerless/backend/v1/volume_pb.ts";
import { JsonFields } from "./json-fields.ts";
import { mapOrNull, rfc3339 } from "./json-values.ts";

/**
 * Reads the body of `POST /volumes/create`.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function createVolumeRequestFromJson(body: unknown): CreateVolumeRequest {
  const fields = new JsonFields(body ?? {}, "CreateOptions");
  return create(CreateVolumeRequestSchema, {
    name: fields.string("Name"),
    driver: fields.string("Driver"),
    driverOpts: fields.stringMap("DriverOpts"),
    labels: fields.stringMap("Labels"),
  });
}

/** A volume's JSON in create, inspect and list. */
export function volumeToJson(volume: Volume): Record<string, unknown> {
  return {
    CreatedAt: volume.created === undefined ? undefined : rfc3339(volume.created),
    Driver: volume.driver,
    Labels: volume.anonymous
      ? { "com.docker.volume.anonymous": "", ...volume.labels }
      : mapOrNull(volume.labels),
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: mapOrNull(volume.options),
    Scope: volume.scope,
    ...(Object.keys(volume.status).length === 0 ? {} : { Status: volume.status }),
  };
}
