/** Conversions of JSON bodies to fields of the backend's request: pure functions that run in either thread. */
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";

import {
  CommitContainerRequestSchema,
  CreateContainerRequestSchema,
  UpdateContainerRequestSchema,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { CreateExecRequestSchema } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import {
  ConnectNetworkRequestSchema,
  CreateNetworkRequestSchema,
  DisconnectNetworkRequestSchema,
} from "../../gen/sockerless/backend/v1/network_pb.ts";
import { AuthenticateRequestSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { CreateVolumeRequestSchema } from "../../gen/sockerless/backend/v1/volume_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { containerConfigFromJson } from "../convert/container-config.ts";
import { createRequestFromJson } from "../convert/create-request.ts";
import { endpointConfigFromJson } from "../convert/endpoints.ts";
import { execConfigFromJson } from "../convert/exec.ts";
import { JsonFields } from "../convert/json-fields.ts";
import { createNetworkRequestFromJson } from "../convert/networks.ts";
import { updateRequestFromJson } from "../convert/update-request.ts";
import { createVolumeRequestFromJson } from "../convert/volumes.ts";
import { registryAuthFromJson } from "../registry-auth.ts";

/** A converted body. */
export interface Converted<Desc extends DescMessage = DescMessage> {
  readonly fields: MessageInitShape<Desc>;
  /** Warnings about the request itself, in addition to the backend's. */
  readonly warnings: readonly string[];
}

/** The conversion of one kind of body. */
export interface Conversion<Desc extends DescMessage = DescMessage> {
  /** The message type that the fields belong to. */
  readonly schema: Desc;
  /** @throws SockerlessError of kind `invalid` in dockerd's words */
  readonly convert: (body: unknown, version: ApiVersion) => Converted<Desc>;
}

/** Every JSON body except those of hijacked requests, which are small. */
export const conversions = {
  createContainer: conversion(CreateContainerRequestSchema, (body, version) => {
    const { warnings, ...fields } = createRequestFromJson(body, version);
    return { fields, warnings };
  }),
  updateContainer: conversion(UpdateContainerRequestSchema, (body, version) =>
    withoutWarnings(updateRequestFromJson(body, version)),
  ),
  commitContainer: conversion(CommitContainerRequestSchema, (body) => {
    const config = containerConfigFromJson(new JsonFields(body ?? {}, "Config"));
    return withoutWarnings(config === undefined ? {} : { config });
  }),
  createExec: conversion(CreateExecRequestSchema, (body, version) =>
    withoutWarnings({ config: execConfigFromJson(body, version) }),
  ),
  authenticate: conversion(AuthenticateRequestSchema, (body) =>
    withoutWarnings({ auth: registryAuthFromJson(body) }),
  ),
  createNetwork: conversion(CreateNetworkRequestSchema, (body, version) =>
    withoutWarnings(createNetworkRequestFromJson(body, version)),
  ),
  connectNetwork: conversion(ConnectNetworkRequestSchema, (body) => {
    const fields = new JsonFields(body ?? {}, "ConnectOptions");
    const endpoint = fields.object("EndpointConfig");
    return withoutWarnings({
      container: fields.string("Container"),
      ...(endpoint === undefined ? {} : { endpoint: endpointConfigFromJson(endpoint) }),
    });
  }),
  disconnectNetwork: conversion(DisconnectNetworkRequestSchema, (body) => {
    const fields = new JsonFields(body ?? {}, "DisconnectOptions");
    return withoutWarnings({ container: fields.string("Container"), force: fields.boolean("Force") });
  }),
  createVolume: conversion(CreateVolumeRequestSchema, (body) =>
    withoutWarnings(createVolumeRequestFromJson(body)),
  ),
};

/** One of {@link conversions}. */
export type ConversionName = keyof typeof conversions;

/** The message type of a conversion's fields. */
export type ConvertedSchema<Name extends ConversionName> = (typeof conversions)[Name]["schema"];

function conversion<Desc extends DescMessage>(
  schema: Desc,
  convert: Conversion<Desc>["convert"],
): Conversion<Desc> {
  return { schema, convert };
}

function withoutWarnings<Fields>(fields: Fields): { fields: Fields; warnings: readonly string[] } {
  return { fields, warnings: [] };
}
