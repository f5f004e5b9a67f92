/** The end of a bench by a signal: at once, but for the removal of what it has made. */

/**
 * Runs a bench, whose resources are disposed of at its end. An interrupted one is told in a line, with exit code 1.
 *
 * @param work ends what it is doing when its signal is aborted, with whatever error
 */
export async function untilInterrupted(
  work: (resources: AsyncDisposableStack, interrupted: AbortSignal) => Promise<void>,
): Promise<void> {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (!controller.signal.aborted) {
        controller.abort(`interrupted by ${signal}`);
        console.error(controller.signal.reason);
      }
    });
  }
  try {
    await using resources = new AsyncDisposableStack();
    await work(resources, controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) {
      throw error;
    }
    process.exitCode = 1;
  }
}
