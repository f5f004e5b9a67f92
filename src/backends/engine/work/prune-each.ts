/** The part that all prunes of things with a size have in common. */
import { messageOf } from "../../../common/errors.ts";
import type { EngineContext } from "../context.ts";

/** The result of a prune. */
export interface PruneReport {
  /** IDs of containers, names of volumes. */
  readonly removed: readonly string[];
  /** Bytes. */
  readonly spaceReclaimed: bigint;
}

/**
 * Removes one after the other and journals the prune; what cannot be removed is logged and left.
 *
 * @param sizes bytes by ID; what has none counts 0
 * @param signal ends the prune: what is left is spared
 */
export async function pruneEach(
  context: EngineContext,
  type: "container" | "volume",
  ids: readonly string[],
  sizes: ReadonlyMap<string, bigint>,
  remove: (id: string) => Promise<void>,
  signal: AbortSignal,
): Promise<PruneReport> {
  const removed: string[] = [];
  let spaceReclaimed = 0n;
  for (const id of ids) {
    if (signal.aborted) {
      break;
    }
    try {
      await remove(id);
    } catch (error) {
      context.logger.warn({ err: error, [type]: id }, `cannot prune a ${type}: ${messageOf(error)}`);
      continue;
    }
    removed.push(id);
    spaceReclaimed += sizes.get(id) ?? 0n;
  }
  const attributes = { reclaimed: String(spaceReclaimed) };
  await context.state.commit((change) => change.event({ type, action: "prune", actorId: "", attributes }));
  return { removed, spaceReclaimed };
}
