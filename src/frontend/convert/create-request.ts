/** `POST /containers/create`: from the body to the backend's request. */
import { create } from "@bufbuild/protobuf";

import { buildLabel } from "../../common/build-label.ts";
import { invalid } from "../../common/errors.ts";
import {
  ContainerConfigSchema,
  HostConfigSchema,
  NetworkingConfigSchema,
  type ContainerConfig,
  type HostConfig,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { containerConfigFromJson } from "./container-config.ts";
import type { ContainerSettings } from "./container-settings.ts";
import { adaptCreateRequest } from "./create-versions.ts";
import { networkingConfigFromJson } from "./endpoints.ts";
import { hostConfigFromJson } from "./host-config.ts";
import { JsonFields } from "./json-fields.ts";
import { isContainerNetwork } from "./network-mode.ts";

/** A parsed create request. */
export interface CreateRequest extends ContainerSettings {
  /** Warnings about the request itself, in addition to the backend's. */
  readonly warnings: readonly string[];
}

/**
 * Parses and validates the body as far as no machine is involved: types, meaningless combinations, and fields that the
 * client's API version lacks.
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
  checkCombinations(settings);
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

function checkCombinations({ config, hostConfig }: ContainerSettings): void {
  if (Object.hasOwn(config.labels, buildLabel)) {
    throw invalid(
      `the label ${buildLabel} is the builder's: containers that have it are hidden, and end with their build`,
    );
  }
  if (hostConfig.networkMode === "container" || isContainerNetwork(hostConfig.networkMode)) {
    checkContainerNetwork(config, hostConfig);
  }
  if (hostConfig.utsMode === "host" && config.hostname !== "") {
    throw invalid("conflicting options: hostname and the UTS mode");
  }
  if (hostConfig.networkMode === "host" && hostConfig.links.length > 0) {
    throw invalid(
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
  }
  if (!["", "default"].includes(hostConfig.isolation.toLowerCase())) {
    throw invalid(`invalid isolation (${hostConfig.isolation}): linux only supports 'default'`);
  }
  const { resources } = hostConfig;
  if (resources !== undefined && resources.ioMaximumBandwidth !== 0n) {
    throw invalid("invalid option: QoS maximum bandwidth configuration is not supported on linux");
  }
  if (resources !== undefined && resources.ioMaximumIops !== 0n) {
    throw invalid("invalid option: QoS maximum IOPs configuration is not supported on linux");
  }
  if (resources !== undefined && resources.cpuShares < 0n) {
    throw invalid(`invalid CPU shares (${resources.cpuShares}): value must be a positive integer`);
  }
}

function checkContainerNetwork(config: ContainerConfig, hostConfig: HostConfig): void {
  if (hostConfig.networkMode.slice("container:".length) === "") {
    throw invalid("invalid network mode: invalid container format container:<name|id>");
  }
  const conflicts: readonly (readonly [boolean, string])[] = [
    [config.hostname !== "", "hostname and the network mode"],
    [
      hostConfig.links.length > 0,
      "container type network can't be used with links. This would result in undefined behavior",
    ],
    [hostConfig.dns.length > 0, "dns and the network mode"],
    [hostConfig.extraHosts.length > 0, "custom host-to-IP mapping and the network mode"],
    [
      hostConfig.portBindings.length > 0 || hostConfig.publishAllPorts,
      "port publishing and the container type network mode",
    ],
    [config.exposedPorts.length > 0, "port exposing and the container type network mode"],
  ];
  for (const [found, what] of conflicts) {
    if (found) {
      throw invalid(`conflicting options: ${what}`);
    }
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
