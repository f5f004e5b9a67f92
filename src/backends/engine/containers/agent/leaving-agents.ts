/** Redirects calls to agents that are leaving or unreachable, once the end of their run is recorded. */
import { isErrorKind } from "../../../../common/errors.ts";
import type { AgentAccess } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { findContainer } from "../decisions/lookup.ts";
import { startSettled } from "../start/start-under-way.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";

/** Time limit for recording the end of a run; an agent that was only cut off for a moment is then called again. */
const endLimitMs = 10_000;
/** Maximum retries: a container that ends repeatedly has another agent each time. */
const maxAttempts = 4;

/**
 * Runs work that needs the agent serving a container. If that agent is leaving or unreachable, the work is retried once
 * the end of its run is recorded: it then finds another agent, or that nothing runs.
 *
 * @param containerId full ID
 * @param left aborts the wait
 * @param work may be repeated after it has thrown `unavailable`
 * @throws the work's errors; unavailable: the unreachable agent still counts as running the container
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

/**
 * {@link atServingAgent} with the container's lock held during the work, but not while waiting for the end of a run.
 *
 * @param left ends these waits; what has begun goes on
 */
export function lockedAtServingAgent<T>(
  context: EngineContext,
  live: LiveContainer,
  work: () => Promise<T>,
  left: AbortSignal = context.shutdown,
): Promise<T> {
  return atServingAgent(context, live.id, left, () => live.lock.run(work, left));
}

/**
 * Waits until a frontend whose agent has failed can be given another endpoint.
 *
 * @param left aborts the wait
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
 * Waits, bounded, until the agent of a run no longer serves its container.
 *
 * @param generation of the run; 0 for the agent that serves the stopped container, until the last run is released and a
 *   start is over
 * @returns whether it no longer does
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
      void unlessAborted(scope, released)
        .then(() => startSettled(live, scope))
        .then(() => context.driver.workloads.storedServed())
        .then(resolve, () => replaced.resolve(false));
    } else {
      link.ended.signal.addEventListener("abort", resolve, { once: true, signal: scope });
    }
    const late = context.clock.sleep(endLimitMs, scope).then(() => false);
    const isReplaced = await Promise.race([replaced.promise, late]);
    scope.throwIfAborted();
    return isReplaced;
  });
}
