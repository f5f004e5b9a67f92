/** The end of a bench by a signal: at once, but for the removal of what it has made. */

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs a bench, whose resources are disposed of at its end. An interrupted one is told in a line, with exit code 1.
 *
 * @param work ends what it is doing when its signal is aborted, with whatever error
 * @throws what the work does otherwise, and what removing fails with
 */
export async function untilInterrupted(
  work: (resources: AsyncDisposableStack, interrupted: AbortSignal) => Promise<void>,
): Promise<void> {
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    if (!controller.signal.aborted) {
      controller.abort(`interrupted by ${signal}`);
      console.error(controller.signal.reason);
    }
  };
  for (const signal of signals) {
    process.on(signal, interrupt);
  }
  try {
    await using resources = new AsyncDisposableStack();
    await work(resources, controller.signal).catch((error: unknown) => {
      // A resource of the work's own that could not be removed has suppressed the interruption.
      if (!controller.signal.aborted || error instanceof SuppressedError) {
        throw error;
      }
      process.exitCode = 1;
    });
  } finally {
    for (const signal of signals) {
      process.off(signal, interrupt);
    }
  }
}
