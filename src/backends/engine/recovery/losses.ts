/** Things that the state does not know since it lost records: kept until a user lets them go, or their records come back. */
import { messageOf } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import type { EngineContext } from "../context.ts";

/** How many containers a warning names. */
const mostNamed = 10;

/** Forgets losses that have cost nothing: all that is there is on record. Failing is no reason not to start. */
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

/** Words on what may be lost, and what is kept of it; undefined: nothing is. */
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
 * Deletes, by a user's command, what the state does not know.
 *
 * @returns IDs of containers whose files are gone
 */
export async function letGo(context: EngineContext, signal: AbortSignal): Promise<readonly string[]> {
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
  // A container that runs, and that the state does not know, needs its layers.
  const found = state.losses.length > 0 ? await driver.workloads.list() : [];
  if (state.losses.length > 0 && found.every(({ containerId }) => state.containers.has(containerId))) {
    await state.forgetLosses();
    await images.collectUnneeded();
  }
  return gone;
}

/** Short IDs, of many the first ones. */
function named(ids: ReadonlySet<string>): string {
  const first = [...ids].slice(0, mostNamed).map(shortId);
  return [...first, ...(ids.size > mostNamed ? ["…"] : [])].join(", ");
}
