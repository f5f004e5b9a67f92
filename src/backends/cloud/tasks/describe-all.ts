import type { CloudTasks, TaskView } from "../contract/cloud-tasks.ts";

/** Tasks, however many, as the cloud tells of them; those that it does not know are left out. */
export interface AllDescribed {
  readonly views: readonly TaskView[];
  /** Failures of looks at single tasks, by task. */
  readonly failed: ReadonlyMap<string, unknown>;
}

/** Asks for tasks, however many. @throws the failure of a call that is for many */
export async function describeAll(
  cloud: Pick<CloudTasks, "describe" | "describedAtOnce">,
  tasks: readonly string[],
  signal: AbortSignal,
): Promise<AllDescribed> {
  const found: TaskView[] = [];
  const missed = new Map<string, unknown>();
  for (let from = 0; from < tasks.length; from += cloud.describedAtOnce) {
    const now = tasks.slice(from, from + cloud.describedAtOnce);
    const { views, failed = new Map<string, unknown>() } = await cloud.describe(now, signal);
    found.push(...views);
    for (const [task, failure] of failed) {
      missed.set(task, failure);
    }
  }
  return { views: found, failed: missed };
}

/** Tells what was described, where that is all. @throws the failure of any look */
export function whole({ views, failed }: AllDescribed): readonly TaskView[] {
  for (const failure of failed.values()) {
    throw failure;
  }
  return views;
}
