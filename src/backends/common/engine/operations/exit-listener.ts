/** Waiting for the next exit of a container. */
import type { EngineContext } from "../context.ts";
import type { LiveContainer } from "../live.ts";
import { hasProcess } from "../records.ts";

/** The next exit of a container, listened for since before what is to bring it about. */
export interface ExitListener {
  /**
   * @param ms undefined: for ever
   * @param cut ends the wait, as the end of that time does. Only with a time
   * @returns whether it exited in time
   */
  within(ms: number | undefined, cut?: AbortSignal): Promise<boolean>;
  /** Stops listening. */
  cancel(): void;
}

/** The next exit of a container, listened for from now on; of one that does not run, it has come. */
export function listenForExit(context: EngineContext, live: LiveContainer): ExitListener {
  const controller = new AbortController();
  const signal = AbortSignal.any([controller.signal, context.shutdown]);
  const exited = live.waiters.nextExit(signal).then(
    () => true,
    () => false,
  );
  const record = context.state.containers.get(live.id);
  const isOver = record === undefined || !hasProcess(record);
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
    cancel: () => controller.abort(),
  };
}
