import type { CloudTasks, DescribedTasks, TaskView } from "../contract/cloud-tasks.ts";

/** Descriptions of any number of tasks, without those unknown to the cloud. */
export interface AllDescribed {
  readonly views: readonly TaskView[];
  /** Failed calls, by task. */
  readonly failed: ReadonlyMap<string, unknown>;
}

/** The part of a cloud that describes tasks. */
export type Describing = Pick<CloudTasks, "describe" | "describedAtOnce" | "placeOf">;

/** Splits tasks into batches of one call each. */
export function byCall(tasks: readonly string[], cloud: Describing): readonly string[][] {
  const { describedAtOnce } = cloud;
  return [...Map.groupBy(tasks, (task) => cloud.placeOf?.(task)).values()].flatMap((alike) =>
    Array.from({ length: Math.ceil(alike.length / describedAtOnce) }, (_, call) =>
      alike.slice(call * describedAtOnce, (call + 1) * describedAtOnce),
    ),
  );
}

/** Describes any number of tasks by independent calls. @throws the signal's reason */
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

/** Returns the descriptions if no call failed. @throws the error of any call */
export function whole({ views, failed }: AllDescribed): readonly TaskView[] {
  for (const failure of failed.values()) {
    throw failure;
  }
  return views;
}
