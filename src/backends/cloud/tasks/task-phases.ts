/** Phases of a start according to the cloud, by its clock. */
import type { Clock } from "../../../common/clock.ts";
import type { LaunchProgress, ReportedPhase } from "../../driver/launches.ts";
import type { CloudTasks, TaskTimes, TaskView } from "../contract/cloud-tasks.ts";
import type { TaskPoller } from "./poller.ts";

/** Receives a start's phases. */
export type PhaseListener = LaunchProgress["phase"];

/** Reports the phases of a starting task. */
export function reportTimes(
  { created, pullStarted, pullStopped, started }: TaskTimes,
  tell: PhaseListener,
): void {
  const phase = (name: ReportedPhase["name"], from: Date | undefined, until: Date | undefined): void => {
    if (from !== undefined) {
      tell({ name, by: "cloud", from, ...(until === undefined ? {} : { until }) });
    }
  };
  phase("provisioning", created, pullStarted ?? started);
  phase("pull", pullStarted, pullStopped);
  phase("containers", pullStopped, started);
}

/** Time for the last phases, which a cloud reports some seconds after the agent has answered. */
const longestMs = 20_000;

interface RestParts {
  readonly cloud: Pick<CloudTasks, "tellsPhases">;
  readonly poller: Pick<TaskPoller, "listen">;
  readonly clock: Clock;
}

/**
 * Reports the remaining phases of a task once the cloud knows them. Never fails.
 *
 * @param signal aborts the wait
 */
export async function reportRemaining(
  task: string,
  tell: PhaseListener,
  { cloud, poller, clock }: RestParts,
  signal: AbortSignal,
): Promise<void> {
  if (!cloud.tellsPhases) {
    return;
  }
  const told = new AbortController();
  const hear = (view: TaskView | "missing"): void => {
    if (view !== "missing") {
      reportTimes(view.times, tell);
    }
    if (view === "missing" || view.stopping || view.stopped || view.times.started !== undefined) {
      told.abort();
    }
  };
  const unlisten = poller.listen(task, hear);
  await clock.sleep(longestMs, AbortSignal.any([signal, told.signal])).catch(() => {});
  unlisten();
}
