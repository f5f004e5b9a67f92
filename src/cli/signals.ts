/** The signals that ask a program to end. */

const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * At a terminal one Ctrl-C arrives twice, from the terminal and from `npm`, which forwards it; so only what comes later
 * than this is a second request.
 */
const secondRequestAfterMs = 1000;

/**
 * Calls `first` at the first signal that asks to end (or when the process that forked this one is gone), and `again`
 * at a later one: the user is not willing to wait.
 */
export function onEndRequested(first: () => void, again: () => void): void {
  let firstAt: number | undefined;
  const request = (): void => {
    const now = Date.now();
    if (firstAt === undefined) {
      firstAt = now;
      first();
    } else if (now - firstAt > secondRequestAfterMs) {
      again();
    }
  };
  for (const signal of endingSignals) {
    process.on(signal, request);
  }
  if (process.connected) {
    process.on("disconnect", request);
  }
}
