/** Reason of aborts at a task's end, which nobody sees: without one each abort makes an error with a stack. */
const taskIsOver = new Error("the task is over");

/**
 * Runs a task with a signal that aborts with the parent, and at the task's end. Clients of RPCs leave their listeners on
 * the signals they are given: on a signal that lives as long as the process they would pile up.
 */
export async function withScopedSignal<T>(
  parent: AbortSignal,
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  try {
    return await task(AbortSignal.any([parent, over.signal]));
  } finally {
    over.abort(taskIsOver);
  }
}
