/** Sizes of images' layers, each stack of layers counted once. Pure. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { chainIds } from "./digest.ts";

/** Uncompressed bytes of each layer, by the chain ID of the stack that it tops. */
export function sizesByChain(records: Iterable<ImageRecord>): ReadonlyMap<string, bigint> {
  const sizes = new Map<string, bigint>();
  for (const record of records) {
    for (const [index, chainId] of chainIds(record.diffIds).entries()) {
      sizes.set(chainId, record.layerSizes[index] ?? 0n);
    }
  }
  return sizes;
}
