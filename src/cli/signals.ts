/** The signals that ask a program to end, or to read its certificates again. */

const endingSignals = ["SIGINT", "SIGTERM"] as const;

/**
 * Milliseconds after which another signal is a second request: at a terminal one Ctrl-C arrives twice, from
 * the terminal and from `npm`, which forwards it.
 */
const secondRequestAfterMs = 1000;

/**
 * Calls `first` at the first signal that asks to end (or when the process that forked this one is gone), and `again`
 * at a later signal: the user is not willing to wait.
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
  // That somebody is gone, or is told nothing any more, says nothing about his patience.
  process.once("disconnect", () => {
    if (firstAt === undefined) {
      request();
    }
  });
}

/** Calls `reload` at each SIGHUP, which as in other daemons never ends the program. */
export function onReloadRequested(reload: () => void): void {
  process.on("SIGHUP", reload);
}
