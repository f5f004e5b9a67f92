import type { CloudTasks, TaskView } from "../cloud-tasks.ts";

/** Tells of tasks, however many; those that the cloud does not know are left out. @throws a failure of any */
export async function describeAll(
  cloud: Pick<CloudTasks, "describe" | "describedAtOnce">,
  tasks: readonly string[],
  signal: AbortSignal,
): Promise<readonly TaskView[]> {
  const found: TaskView[] = [];
  for (let from = 0; from < tasks.length; from += cloud.describedAtOnce) {
    const now = tasks.slice(from, from + cloud.describedAtOnce);
    const { views, failed = new Map<string, unknown>() } = await cloud.describe(now, signal);
    for (const failure of failed.values()) {
      throw failure;
    }
    found.push(...views);
  }
  return found;
}
