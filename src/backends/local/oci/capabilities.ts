import { readFileSync } from "node:fs";
import { invalid } from "../../../common/errors.ts";
import { capabilitiesByBit, defaultCapabilities } from "../../common/linux-capabilities.ts";
import type { OciCapabilities } from "./types.ts";

/** The capabilities of a bounding set as `/proc/<pid>/status` prints it (hexadecimal). */
export function capabilitiesOfMask(mask: string): string[] {
  const bits = BigInt(`0x${mask.trim()}`);
  return capabilitiesByBit.filter((_, bit) => (bits >> BigInt(bit)) & 1n);
}

/** Capabilities that this process could hand on: its own bounding set. */
export function availableCapabilities(): string[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const mask = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask === undefined ? [...defaultCapabilities] : capabilitiesOfMask(mask);
}

/** @throws SockerlessError `invalid` in dockerd's words for one that this machine does not have */
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
 * @param given names as the engine has written them: `ALL`, or with `CAP_` and in upper case
 * @param available what the machine can give
 * @throws SockerlessError `invalid`
 */
export function containerCapabilities(
  given: {
    readonly capAdd: readonly string[];
    readonly capDrop: readonly string[];
    readonly privileged: boolean;
  },
  available: readonly string[],
): string[] {
  if (given.privileged) {
    return [...available];
  }
  const { capAdd: add, capDrop: drop } = given;
  refuseUnavailable([...drop, ...add], available);
  if (add.includes("ALL")) {
    return available.filter((name) => !drop.includes(name));
  }
  const kept = defaultCapabilities.filter((name) => !drop.includes(name) && available.includes(name));
  return [...new Set([...(drop.includes("ALL") ? [] : kept), ...add])];
}

/** The sets of a process; inheritable and ambient stay empty, as under dockerd. */
export function capabilitySets(bounding: readonly string[]): OciCapabilities {
  return { bounding, effective: bounding, permitted: bounding };
}
