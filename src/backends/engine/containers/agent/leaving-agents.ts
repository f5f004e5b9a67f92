/** Has calls to agents that are leaving or away wait for the end of the run, and then sends them elsewhere. */
import { isErrorKind } from "../../../../common/errors.ts";
import type { AgentAccess } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { findContainer } from "../decisions/lookup.ts";
import { startSettled } from "../start/start-under-way.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";

/** How long the end of a run may take to be recorded; an agent that is only cut off for a moment is asked again then. */
const endLimitMs = 10_000;
/** How often work is done anew: a container that ends again and again has another agent each time. */
const maxAttempts = 4;

/**
 * Does what needs the agent that serves a container. Where that is leaving or away, the work is done anew once the end of
 * its run is on record: then it finds another agent, or that nothing runs.
 *
 * @param containerId full ID
 * @param left ends the wait
 * @param work may be repeated after it has thrown `unavailable`
 * @throws what the work throws; unavailable: the agent that cannot be reached still counts as running the container
 */
export async function atServingAgent<T>(
  context: EngineContext,
  containerId: string,
  left: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const live = context.live.of(containerId);
  for (let attempt = 1; ; attempt++) {
    const generation = live.link?.generation ?? 0n;
    try {
      return await work();
    } catch (error) {
      const isAnotherToCome =
        attempt < maxAttempts &&
        isErrorKind(error, "unavailable") &&
        (await agentReplaced(context, live, generation, left));
      if (!isAnotherToCome) {
        throw error;
      }
    }
  }
}

/** {@link atServingAgent} with the container's lock held for the work, and not while the end of a run is waited for. */
export function lockedAtServingAgent<T>(
  context: EngineContext,
  live: LiveContainer,
  work: () => Promise<T>,
): Promise<T> {
  return atServingAgent(context, live.id, context.shutdown, () => live.lock.run(work));
}

/**
 * Waits until a frontend that asks again, because the agent it was sent to has failed it, can be sent
 * elsewhere.
 *
 * @param left ends the wait
 * @throws not-found; the signal's reason
 */
export async function failedAgentReplaced(
  context: EngineContext,
  reference: string,
  access: AgentAccess | undefined,
  left: AbortSignal,
): Promise<void> {
  if (access?.failedGeneration !== undefined) {
    const { id } = findContainer(context.state, reference);
    await agentReplaced(context, context.live.of(id), access.failedGeneration, left);
  }
}

/**
 * Waits, bounded, until the agent of a run serves its container no more.
 *
 * @param generation of the run; 0: none, since the agent serves the container while it does not run, until the
 *   last run is released and a start is over
 * @returns whether it is so
 */
async function agentReplaced(
  context: EngineContext,
  live: LiveContainer,
  generation: bigint,
  left: AbortSignal,
): Promise<boolean> {
  const { link, released } = live;
  if (generation !== 0n && link?.generation !== generation) {
    return true;
  }
  return await withScopedSignal(AbortSignal.any([left, context.shutdown]), async (scope) => {
    const replaced = Promise.withResolvers<boolean>();
    const resolve = (): void => replaced.resolve(true);
    if (generation === 0n || link === undefined) {
      void released
        .then(() => startSettled(live))
        .then(() => context.driver.workloads.storedServed())
        .then(resolve, () => replaced.resolve(false));
    } else {
      link.ended.signal.addEventListener("abort", resolve, { once: true, signal: scope });
    }
    const late = context.clock.sleep(endLimitMs, scope).then(() => false);
    return await Promise.race([replaced.promise, late]);
  });
}
