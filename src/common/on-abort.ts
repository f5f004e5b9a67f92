/** Listening to a signal for as long as something goes on: on one that lives long, listeners would pile up. */

/**
 * Acts when a signal aborts, at once where it has already; disposing of the answer ends that.
 *
 * @param signal undefined: nothing ever aborts
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): Disposable {
  if (signal?.aborted === true) {
    act();
  } else {
    signal?.addEventListener("abort", act, { once: true });
  }
  return { [Symbol.dispose]: () => signal?.removeEventListener("abort", act) };
}
