import type { CloudTasks, TaskView } from "../cloud-tasks.ts";

/** Tells of tasks, however many; those that the cloud does not know are left out. */
export async function describeAll(
  cloud: Pick<CloudTasks, "describe" | "describedAtOnce">,
  tasks: readonly string[],
  signal: AbortSignal,
): Promise<readonly TaskView[]> {
  const found: TaskView[] = [];
  for (let from = 0; from < tasks.length; from += cloud.describedAtOnce) {
    const { views } = await cloud.describe(tasks.slice(from, from + cloud.describedAtOnce), signal);
    found.push(...views);
  }
  return found;
}
