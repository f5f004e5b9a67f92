/** Phases of a start as the cloud tells them of its task, by its own clock. */
import type { Clock } from "../../../common/clock.ts";
import type { LaunchProgress, ReportedPhase } from "../../driver/launches.ts";
import type { CloudTasks, TaskTimes, TaskView } from "../contract/cloud-tasks.ts";
import type { TaskPoller } from "./poller.ts";

/** Hears of a start's phases. */
export type TellPhase = LaunchProgress["phase"];

/** Tells the phases of a task that comes up. */
export function tellTimes({ created, pullStarted, pullStopped, started }: TaskTimes, tell: TellPhase): void {
  const phase = (name: ReportedPhase["name"], from: Date | undefined, until: Date | undefined): void => {
    if (from !== undefined) {
      tell({ name, by: "cloud", from, ...(until === undefined ? {} : { until }) });
    }
  };
  phase("provisioning", created, pullStarted ?? started);
  phase("pull", pullStarted, pullStopped);
  phase("containers", pullStopped, started);
}

/** A cloud tells the last of it some seconds after the agent has answered. */
const longestMs = 20_000;

interface RestParts {
  readonly cloud: Pick<CloudTasks, "tellsPhases">;
  readonly poller: Pick<TaskPoller, "listen">;
  readonly clock: Clock;
}

/**
 * Tells the rest of a task's phases, once the cloud has. Never fails.
 *
 * @param signal ends that
 */
export async function tellRest(
  task: string,
  tell: TellPhase,
  { cloud, poller, clock }: RestParts,
  signal: AbortSignal,
): Promise<void> {
  if (!cloud.tellsPhases) {
    return;
  }
  const told = new AbortController();
  const hear = (view: TaskView | "missing"): void => {
    if (view !== "missing") {
      tellTimes(view.times, tell);
    }
    if (view === "missing" || view.stopping || view.stopped || view.times.started !== undefined) {
      told.abort();
    }
  };
  const unlisten = poller.listen(task, hear);
  await clock.sleep(longestMs, AbortSignal.any([signal, told.signal])).catch(() => {});
  unlisten();
}
