/** Waits for the exit of a container's run. */
import { onAbort } from "../../../../common/on-abort.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { runningContainer } from "../decisions/lookup.ts";

/** A listener for the exit of one run, created before the call that causes the exit. */
export interface ExitListener extends Disposable {
  /**
   * @param ms time limit; undefined for none
   * @param cut ends the wait early, like the time limit
   * @returns whether it exited in time
   */
  within(ms: number | undefined, cut?: AbortSignal): Promise<boolean>;
}

/**
 * Listens for the exit of one run of a container from now on; resolves at once if that run is over.
 *
 * @param generation of the run
 */
export function listenForExit(context: EngineContext, live: LiveContainer, generation: bigint): ExitListener {
  const controller = new AbortController();
  const signal = AbortSignal.any([controller.signal, context.shutdown]);
  const exited = live.waiters.nextExit(signal).then(
    () => true,
    () => false,
  );
  const isOver = runningContainer(context.state, live.id, generation) === undefined;
  return {
    within: async (ms, cut) => {
      if (isOver) {
        return true;
      }
      const ended = cut === undefined ? signal : AbortSignal.any([signal, cut]);
      const limit = (ms === undefined ? aborted(ended) : context.clock.sleep(ms, ended)).then(
        () => false,
        () => (signal.aborted ? exited : false),
      );
      const inTime = await Promise.race([exited, limit]);
      if (!inTime && context.shutdown.aborted) {
        throw context.shutdown.reason;
      }
      return inTime;
    },
    [Symbol.dispose]: () => controller.abort(),
  };
}

/** Rejects once the signal aborts. */
function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  onAbort(signal, () => reject(signal.reason));
  return promise;
}
