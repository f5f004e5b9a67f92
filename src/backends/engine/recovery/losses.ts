/**
 * Resources that are unknown since the state lost records: kept until a user discards them, or their records come back.
 */
import { messageOf } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import type { EngineContext } from "../context.ts";

/** Maximum number of containers named in a warning. */
const mostNamed = 10;

/** Forgets losses without effect: all existing resources are recorded. A failure does not prevent the start. */
export async function settleLosses(context: EngineContext): Promise<void> {
  const { images, logger, state, unclaimed } = context;
  if (state.losses.length === 0) {
    return;
  }
  try {
    if (state.mayBeWhole && unclaimed.size === 0 && !(await images.hasUnneeded())) {
      await state.forgetLosses();
      return;
    }
  } catch (error) {
    logger.warn({ err: error }, `cannot tell what the state has lost: ${messageOf(error)}`);
  }
  logger.error({ unclaimed: [...unclaimed] }, lossWarning(context));
}

/** Describes what may be lost and what is kept; undefined if nothing is. */
export function lossWarning({
  state,
  unclaimed,
}: Pick<EngineContext, "state" | "unclaimed">): string | undefined {
  if (state.losses.length === 0 && unclaimed.size === 0) {
    return undefined;
  }
  const reasons = state.losses.length === 0 ? "" : ` (${state.losses.join(", ")})`;
  const files =
    unclaimed.size === 0 ? "" : `files of ${unclaimed.size} container(s) (${named(unclaimed)}) and `;
  return `The state may have lost records${reasons}: ${files}content that it does not know is kept until "docker container prune"; "sockerless check", with the daemon stopped, tells what else is damaged`;
}

/**
 * Deletes, at a user's request, what the state does not know.
 *
 * @returns IDs of containers whose files were deleted
 */
export async function discardUnknown(
  context: EngineContext,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const { driver, images, logger, state, unclaimed } = context;
  const gone: string[] = [];
  for (const id of unclaimed) {
    if (signal.aborted) {
      return gone;
    }
    try {
      await driver.workloads.remove(id);
    } catch (error) {
      logger.warn({ err: error, container: id }, `cannot prune a container: ${messageOf(error)}`);
      continue;
    }
    unclaimed.delete(id);
    gone.push(id);
  }
  // A running container that the state does not know needs its layers.
  const found = state.losses.length > 0 ? await driver.workloads.list() : [];
  if (state.losses.length > 0 && found.every(({ containerId }) => state.containers.has(containerId))) {
    await state.forgetLosses();
    await images.collectUnneeded();
  }
  return gone;
}

/** Short IDs; only the first ones if there are many. */
function named(ids: ReadonlySet<string>): string {
  const first = [...ids].slice(0, mostNamed).map(shortId);
  return [...first, ...(ids.size > mostNamed ? ["…"] : [])].join(", ");
}
