/** Waiting for the exit of a run of a container. */
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { runningContainer } from "../decisions/lookup.ts";

/** A listener for the exit of one run, made before the call that is to bring the exit about, until it is disposed of. */
export interface ExitListener extends Disposable {
  /**
   * @param ms undefined: for ever
   * @param cut ends the wait, as the end of that time does. Only with a time
   * @returns whether it exited in time
   */
  within(ms: number | undefined, cut?: AbortSignal): Promise<boolean>;
}

/**
 * Listens for the exit of one run of a container from now on; the exit of a run that is over has come
 * already.
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
      const timer =
        ms === undefined
          ? []
          : [
              context.clock.sleep(ms, cut === undefined ? signal : AbortSignal.any([signal, cut])).then(
                () => false,
                () => (signal.aborted ? exited : false),
              ),
            ];
      const inTime = await Promise.race([exited, ...timer]);
      if (!inTime && context.shutdown.aborted) {
        throw context.shutdown.reason;
      }
      return inTime;
    },
    [Symbol.dispose]: () => controller.abort(),
  };
}
