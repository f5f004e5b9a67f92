/** Disk usage of containers and volumes. */
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { sizesFromAgents } from "../containers/agent/agent-sizes.ts";
import type { EngineContext } from "../context.ts";

/** One container's. */
export interface ContainerSize {
  /** Bytes in its writable layer. */
  readonly sizeRw: bigint;
  /** Bytes of its root file system: writable layer and image. */
  readonly sizeRootFs: bigint;
}

/** Bytes in containers' writable layers, by ID, where known. */
export async function writableSizes(
  context: EngineContext,
  records: readonly ContainerRecord[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, bigint>> {
  const { disk } = context.driver;
  if (records.length === 0) {
    return new Map();
  }
  if (disk.kind === "agents") {
    return await sizesFromAgents(context, records, signal);
  }
  const { containers } = await disk.measure({ containers: records.map(({ id }) => id), volumes: [] }, signal);
  return containers;
}

/** The sizes of containers, by ID, where known. */
export async function sizesOf(
  context: EngineContext,
  records: readonly ContainerRecord[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ContainerSize>> {
  const sizes = new Map<string, ContainerSize>();
  const written = await writableSizes(context, records, signal);
  for (const { id, imageId } of records) {
    const sizeRw = written.get(id);
    if (sizeRw !== undefined) {
      const image = context.state.images.get(imageId)?.size ?? 0n;
      sizes.set(id, { sizeRw, sizeRootFs: sizeRw + image });
    }
  }
  return sizes;
}

/** Bytes of volumes, by name; empty if this backend cannot measure them. */
export async function volumeSizes(
  context: EngineContext,
  names: readonly string[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, bigint>> {
  const { disk } = context.driver;
  if (disk.kind === "agents" || names.length === 0) {
    return new Map();
  }
  return (await disk.measure({ containers: [], volumes: names }, signal)).volumes;
}
