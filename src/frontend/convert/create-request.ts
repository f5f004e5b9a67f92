/** `POST /containers/create`: from the body to the backend's request. */
import { create } from "@bufbuild/protobuf";

import { buildLabel } from "../../common/build-label.ts";
import { invalid } from "../../common/errors.ts";
import {
  ContainerConfigSchema,
  HostConfigSchema,
  NetworkingConfigSchema,
  type ContainerConfig,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { containerConfigFromJson } from "./container-config.ts";
import type { ContainerSettings } from "./container-settings.ts";
import { adaptCreateRequest } from "./create-versions.ts";
import { networkingConfigFromJson } from "./endpoints.ts";
import { hostConfigFromJson } from "./host-config.ts";
import { JsonFields } from "./json-fields.ts";

/** A parsed create request. */
export interface CreateRequest extends ContainerSettings {
  /** Warnings about the request itself, in addition to the backend's. */
  readonly warnings: readonly string[];
}

/**
 * Parses the body: types, and fields that the client's API version lacks. The backend refuses meaningless combinations.
 *
 * @param body parsed JSON
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export function createRequestFromJson(body: unknown, version: ApiVersion): CreateRequest {
  const fields = new JsonFields(body ?? {}, "CreateRequest");
  // Fields of a struct that is embedded in Go.
  const config = containerConfigFromJson(new JsonFields(body ?? {}, "CreateRequest.Config"));
  const hostFields = fields.object("HostConfig");
  const networkingFields = fields.object("NetworkingConfig");
  const settings: ContainerSettings = {
    config: config ?? create(ContainerConfigSchema),
    hostConfig: hostFields === undefined ? create(HostConfigSchema) : hostConfigFromJson(hostFields),
    networking:
      networkingFields === undefined
        ? create(NetworkingConfigSchema)
        : networkingConfigFromJson(networkingFields),
  };
  refuseBuildLabel(settings.config);
  if (config === undefined) {
    throw invalid("config cannot be empty in order to create a container");
  }
  resolveDefaultNetwork(settings);
  const warnings = adaptCreateRequest(settings, version);
  const { resources } = settings.hostConfig;
  if (resources?.pidsLimit !== undefined && resources.pidsLimit <= 0n) {
    delete resources.pidsLimit; // 0 and any negative number mean no limit, as an unset field does.
  }
  return { ...settings, warnings };
}

function refuseBuildLabel({ labels }: ContainerConfig): void {
  if (Object.hasOwn(labels, buildLabel)) {
    throw invalid(
      `the label ${buildLabel} is the builder's: containers that have it are hidden, and end with their build`,
    );
  }
}

/** Replaces `default`, by which clients mean the platform's default network, by the bridge. */
function resolveDefaultNetwork({ hostConfig, networking }: ContainerSettings): void {
  if (hostConfig.networkMode !== "" && hostConfig.networkMode !== "default") {
    return;
  }
  hostConfig.networkMode = "bridge";
  const endpoint = networking.endpoints["default"];
  if (endpoint !== undefined) {
    networking.endpoints["bridge"] = endpoint;
    delete networking.endpoints["default"];
  }
}
