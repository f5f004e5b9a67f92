/** Listening to a signal for a limited time: on a long-lived signal, listeners would pile up. */

/**
 * Calls `act` when a signal aborts, at once if it has already; disposing removes the listener.
 *
 * @param signal undefined if nothing ever aborts
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): Disposable {
  if (signal?.aborted === true) {
    act();
  } else {
    signal?.addEventListener("abort", act, { once: true });
  }
  return { [Symbol.dispose]: () => signal?.removeEventListener("abort", act) };
}
