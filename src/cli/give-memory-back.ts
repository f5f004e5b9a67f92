/** Time after which a process that was started has loaded what it needs, and answered those who waited for it. */
const settledAfterMs = 5_000;

/**
 * Gives the machine back what loading the code has left, once: V8 itself keeps it. Takes some 50 ms of a service, and
 * Node's switch `--expose-gc`.
 */
export function giveMemoryBackOnceSettled(): void {
  setTimeout(() => {
    globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
  }, settledAfterMs).unref();
}
