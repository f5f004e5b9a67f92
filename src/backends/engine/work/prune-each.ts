/** The common part of prunes that report freed space. */
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
 * Removes objects one after the other and journals the prune; failures are logged and skipped.
 *
 * @param sizes bytes by ID; missing ones count as 0
 * @param signal ends the prune: remaining objects are kept
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
