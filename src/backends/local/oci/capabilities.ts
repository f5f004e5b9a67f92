import { readFileSync } from "node:fs";
import { invalid } from "../../../common/errors.ts";
import {
  askedCapabilities,
  capabilitiesByBit,
  defaultCapabilities,
} from "../../security/linux-capabilities.ts";
import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { OciCapabilities } from "./types.ts";

/** The capabilities of a bounding set in the format of `/proc/<pid>/status` (hexadecimal). */
export function capabilitiesOfMask(mask: string): string[] {
  const bits = BigInt(`0x${mask.trim()}`);
  return capabilitiesByBit.filter((_, bit) => (bits >> BigInt(bit)) & 1n);
}

/** Capabilities that this process can pass on: its own bounding set. */
export function availableCapabilities(): string[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const mask = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask === undefined ? [...defaultCapabilities] : capabilitiesOfMask(mask);
}

/** @throws SockerlessError `invalid` in dockerd's words for a capability missing on this machine */
function refuseUnavailable(names: readonly string[], available: readonly string[]): void {
  const missing = names.find((name) => name !== "ALL" && !available.includes(name));
  if (missing !== undefined) {
    throw invalid(
      `capability not supported by your kernel or not available in the current environment: "${missing}"`,
    );
  }
}

/**
 * The bounding set of a container.
 *
 * @param available capabilities available on the machine
 * @throws SockerlessError `invalid`
 */
export function containerCapabilities(
  host: Pick<HostConfig, "capAdd" | "capDrop" | "privileged">,
  available: readonly string[],
): string[] {
  if (host.privileged) {
    return [...available];
  }
  const { added, dropped } = askedCapabilities(host);
  refuseUnavailable([...dropped, ...added], available);
  if (added.includes("ALL")) {
    return available.filter((name) => !dropped.includes(name));
  }
  const kept = defaultCapabilities.filter((name) => !dropped.includes(name) && available.includes(name));
  return [...new Set([...(dropped.includes("ALL") ? [] : kept), ...added])];
}

/** A process's capability sets; inheritable and ambient stay empty, as under dockerd. */
export function capabilitySets(bounding: readonly string[]): OciCapabilities {
  return { bounding, effective: bounding, permitted: bounding };
}
