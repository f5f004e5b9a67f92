/** Timers driven by a clock, so that a test controls them. */
import type { Clock } from "./clock.ts";

/** Calls `act` after `ms` milliseconds; disposing cancels it. */
export function after(clock: Clock, ms: number, act: () => void): Disposable {
  const over = new AbortController();
  clock.sleep(ms, over.signal).then(
    () => over.signal.aborted || act(),
    () => undefined,
  );
  return { [Symbol.dispose]: () => over.abort() };
}

/** Calls `act` every `ms` milliseconds until the signal aborts; `act` must not throw. */
export function every(clock: Clock, ms: number, act: () => void, signal: AbortSignal): void {
  clock.sleep(ms, signal).then(
    () => {
      act();
      every(clock, ms, act, signal);
    },
    () => undefined,
  );
}
