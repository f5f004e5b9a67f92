/** Host configurations with Docker's defaults filled in, as inspect shows them. Pure. */
import { create } from "@bufbuild/protobuf";

import {
  type HostConfig,
  type LogConfig,
  LogConfigSchema,
  RestartPolicySchema,
  StringListSchema,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { MachineFacts } from "../../../../driver/machine.ts";
import { validateLogOptions } from "../../../../logging/log-options.ts";
import { containerOfMode, modeOfContainer } from "../../../../model/container-mode.ts";
import { resourcesOf } from "../../../../model/records.ts";

const defaultShmSize = 64n * 1024n * 1024n;

/** A host configuration whose restart policy has a name, as dockerd sets it before it validates the rest. */
export function withRestartPolicy(said: HostConfig): HostConfig {
  const { name = "", maximumRetryCount = 0 } = said.restartPolicy ?? {};
  return { ...said, restartPolicy: create(RestartPolicySchema, { name: name || "no", maximumRetryCount }) };
}

/**
 * The host configuration of a new container, whose restart policy has a name. The argument is unchanged.
 *
 * @param resolveContainer resolves a reference to a container's ID; the reference itself if there is none
 * @throws invalid
 */
export function withHostDefaults(
  said: HostConfig,
  facts: Pick<MachineFacts, "cgroupVersion" | "runtimes" | "maskedPaths" | "readonlyPaths">,
  resolveContainer: (reference: string) => string,
): HostConfig {
  const resources = resourcesOf(said);
  const { memorySwappiness, pidsLimit } = resources;
  return {
    ...said,
    networkMode: sharedMode(
      said.networkMode === "" || said.networkMode === "default" ? "bridge" : said.networkMode,
      resolveContainer,
    ),
    ipcMode: sharedMode(said.ipcMode || "private", resolveContainer),
    pidMode: sharedMode(said.pidMode, resolveContainer),
    cgroupnsMode: said.cgroupnsMode || (facts.cgroupVersion === "2" ? "private" : "host"),
    logConfig: withLogDefaults(said.logConfig),
    securityOpt: securityOptionsOf(said),
    shmSize: said.shmSize === 0n ? defaultShmSize : said.shmSize,
    runtime: said.runtime || (facts.runtimes[0]?.name ?? "runc"),
    maskedPaths: said.maskedPaths ?? (said.privileged ? undefined : list(facts.maskedPaths)),
    readonlyPaths: said.readonlyPaths ?? (said.privileged ? undefined : list(facts.readonlyPaths)),
    resources: {
      ...resources,
      memorySwap:
        resources.memory > 0n && resources.memorySwap === 0n
          ? BigInt.asIntN(64, resources.memory * 2n) // It overflows as in dockerd.
          : resources.memorySwap,
      memorySwappiness: memorySwappiness === -1n ? undefined : memorySwappiness,
      oomKillDisable: resources.oomKillDisable ?? false,
      pidsLimit: pidsLimit !== undefined && pidsLimit <= 0n ? undefined : pidsLimit,
    },
  };
}

/**
 * The security options of a new container: with the host's privileges or one of its namespaces it has no SELinux label,
 * unless one is asked for.
 */
function securityOptionsOf({ securityOpt, privileged, ipcMode, pidMode }: HostConfig): string[] {
  const sharesWithHost = privileged || ipcMode === "host" || pidMode === "host";
  const hasLabel = securityOpt.some((option) => option.split("=")[0] === "label");
  return sharesWithHost && !hasLabel ? [...securityOpt, "label=disable"] : securityOpt;
}

function withLogDefaults(said: LogConfig | undefined): LogConfig {
  const config = create(LogConfigSchema, { type: said?.type || "json-file", config: said?.config ?? {} });
  validateLogOptions(config);
  return config;
}

function sharedMode(mode: string, resolveContainer: (reference: string) => string): string {
  const reference = containerOfMode(mode);
  return reference === undefined ? mode : modeOfContainer(resolveContainer(reference));
}

function list(values: readonly string[]) {
  return create(StringListSchema, { values: [...values] });
}
