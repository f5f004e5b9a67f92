import type { CloudTasks, DescribedTasks, TaskView } from "../contract/cloud-tasks.ts";

/** Tasks, however many, as the cloud tells of them; those that it does not know are left out. */
export interface AllDescribed {
  readonly views: readonly TaskView[];
  /** Failures of the calls for tasks, by task. */
  readonly failed: ReadonlyMap<string, unknown>;
}

/** Parts of a cloud that tell of tasks. */
export type Describing = Pick<CloudTasks, "describe" | "describedAtOnce">;

/** Tasks as they are asked for, a call's at a time. */
export function byCall(tasks: readonly string[], { describedAtOnce }: Describing): readonly string[][] {
  return Array.from({ length: Math.ceil(tasks.length / describedAtOnce) }, (_, call) =>
    tasks.slice(call * describedAtOnce, (call + 1) * describedAtOnce),
  );
}

/** Asks for tasks, however many: no call waits for another. @throws the signal's reason */
export async function describeAll(
  cloud: Describing,
  tasks: readonly string[],
  signal: AbortSignal,
): Promise<AllDescribed> {
  const failed = new Map<string, unknown>();
  const describe = async (asked: readonly string[]): Promise<DescribedTasks["views"]> => {
    try {
      return (await cloud.describe(asked, signal)).views;
    } catch (error) {
      signal.throwIfAborted();
      for (const task of asked) {
        failed.set(task, error);
      }
      return [];
    }
  };
  const views = await Promise.all(byCall(tasks, cloud).map(describe));
  return { views: views.flat(), failed };
}

/** Tells what was described, where that is all. @throws the failure of any look */
export function whole({ views, failed }: AllDescribed): readonly TaskView[] {
  for (const failure of failed.values()) {
    throw failure;
  }
  return views;
}
