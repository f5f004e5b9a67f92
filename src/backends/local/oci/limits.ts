import type { Resources } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { LookedUpPaths } from "./looked-up-paths.ts";
import { containerResources } from "./resources.ts";

/**
 * New limits of a running container in the format of `runc update --resources`: only those given. Unlike at a start,
 * swap is not derived from memory, and a limit of processes is optional.
 */
export function encodeOciLimits(limits: Resources, paths: Pick<LookedUpPaths, "devices">): Uint8Array {
  const { devices: _untouched, memory, pids: _repeated, ...others } = containerResources(limits, [], paths);
  const { swap: _derived, ...withoutSwap } = memory ?? {};
  const changed = {
    ...others,
    memory: limits.memorySwap === 0n ? withoutSwap : memory,
    ...(limits.pidsLimit !== undefined && {
      pids: { limit: limits.pidsLimit > 0n ? Number(limits.pidsLimit) : -1 },
    }),
  };
  return new TextEncoder().encode(JSON.stringify(changed));
}
