/** Abort reason at a task's end. A constant, as each abort without a reason would create an error with a stack. */
const taskIsOver = new Error("the task is over");

/**
 * Runs a task with a signal that aborts with the parent, and at the task's end. RPC clients leave listeners on the
 * signals they receive: on a long-lived signal these would pile up.
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
