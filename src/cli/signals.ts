/** Signals that ask a program to end, or to reload its certificates. */

const endingSignals = ["SIGINT", "SIGTERM"] as const;

/**
 * Milliseconds after which another signal is a second request: in a terminal one Ctrl-C arrives twice, from the
 * terminal and forwarded by `npm`.
 */
const secondRequestAfterMs = 1000;

/**
 * Calls `first` at the first signal to end (or when the parent process has ended), and `again` at a later signal: the
 * user does not want to wait.
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
  // A parent that has ended or disconnected is no impatient user.
  process.once("disconnect", () => {
    if (firstAt === undefined) {
      request();
    }
  });
}

/** Calls `reload` at each SIGHUP, which never ends the program, as in other daemons. */
export function onReloadRequested(reload: () => void): void {
  process.on("SIGHUP", reload);
}
