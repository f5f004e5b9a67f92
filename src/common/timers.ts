/** Timers that a clock turns, so that a test decides when they are due. */
import type { Clock } from "./clock.ts";

/** Acts after `ms` milliseconds; disposing of the answer before then prevents it. */
export function after(clock: Clock, ms: number, act: () => void): Disposable {
  const over = new AbortController();
  clock.sleep(ms, over.signal).then(
    () => over.signal.aborted || act(),
    () => undefined,
  );
  return { [Symbol.dispose]: () => over.abort() };
}

/** Acts every `ms` milliseconds until the signal aborts; `act` must not throw. */
export function every(clock: Clock, ms: number, act: () => void, signal: AbortSignal): void {
  clock.sleep(ms, signal).then(
    () => {
      act();
      every(clock, ms, act, signal);
    },
    () => undefined,
  );
}
