/** Waits for the agent of a requested task. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";
import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { LaunchProgress } from "../../driver/launches.ts";
import type { AgentFinder, FoundAgent } from "../contract/agent-finder.ts";
import { isRefusal } from "../contract/cloud-error.ts";
import type { CloudTasks, TaskView } from "../contract/cloud-tasks.ts";
import type { TaskPoller } from "./poller.ts";
import { StartTimeout } from "./start-limit.ts";
import { failureOfRefusal, failureOfTask, startFailure } from "./task-end.ts";
import { type PhaseListener, reportTimes } from "./task-phases.ts";

/** Dependencies of the wait for an agent. */
export interface AwaitOptions {
  readonly cloud: Pick<CloudTasks, "names" | "grantDelayMs">;
  readonly poller: Pick<TaskPoller, "listen" | "hasten">;
  readonly finder: Pick<AgentFinder, "await" | "describeSilence">;
  readonly clock: Clock;
  readonly phase: PhaseListener;
  /** Called if the cloud refuses to describe the task, which may be transient. */
  readonly waits: LaunchProgress["waits"];
  /** Called once it describes it. */
  readonly goesOn: LaunchProgress["goesOn"];
}

/** Time after which a task that the cloud does not know counts as lost; right after a start that is normal. */
const missingLimitMs = 60_000;
/** Time after which a refused look is final; a new resource is not known everywhere at once. */
const lastingLimitMs = 5_000;

/**
 * Waits until the agent of a task answers.
 *
 * @throws system or unavailable with the cloud's reason: the task stopped, or the cloud refuses to describe it; the
 *   signal's reason
 */
export async function awaitAgent(
  containerId: string,
  { task, launchGeneration }: Pick<TaskRecord, "task" | "launchGeneration">,
  signal: AbortSignal,
  options: AwaitOptions,
): Promise<FoundAgent> {
  const { cloud, poller, finder, clock } = options;
  const ended = new AbortController();
  const found = Promise.withResolvers<FoundAgent>();
  const scope = AbortSignal.any([signal, ended.signal]);
  let last: TaskView | undefined;
  let missingSinceMs: number | undefined;
  let refusedSinceMs: number | undefined;
  let failure: unknown;
  let address = "";
  let hastened = false;
  let isDenied = false;
  const onView = (view: TaskView | "missing"): void => {
    refusedSinceMs = undefined;
    failure = undefined;
    if (isDenied) {
      isDenied = false;
      options.goesOn();
    }
    if (view === "missing") {
      missingSinceMs ??= clock.nowMs();
      if (clock.nowMs() - missingSinceMs > missingLimitMs) {
        found.reject(
          failureOfRefusal({
            reason: `${cloud.names.service} does not know the task any more`,
            cause: undefined,
            prospect: "passes",
          }),
        );
      }
      return;
    }
    missingSinceMs = undefined;
    last = view;
    reportTimes(view.times, options.phase);
    if (view.stopped || (view.stopping && view.isReasonTold)) {
      found.reject(failureOfTask(view));
    } else if (view.address !== undefined && view.address !== address) {
      address = view.address;
      finder.await(containerId, { task, address, launchGeneration }, scope).then(found.resolve, () => {});
    } else if (view.address === undefined && !hastened) {
      hastened = true; // A task gets its address soon after its start, or much later.
      poller.hasten();
    }
  };
  const onFailure = (error: unknown): void => {
    failure = error;
    if (!isRefusal(error) || error.prospect === "passes") {
      refusedSinceMs = undefined;
      return;
    }
    refusedSinceMs ??= clock.nowMs();
    if (error.prospect === "denied" && !isDenied) {
      isDenied = true;
      options.waits(`it is denied, or not allowed yet, and asked for again: ${error.message}`, "try");
    }
    if (
      clock.nowMs() - refusedSinceMs >=
      (error.prospect === "denied" ? cloud.grantDelayMs : lastingLimitMs)
    ) {
      found.reject(startFailure(error.message, error));
    }
  };
  const unlisten = poller.listen(task, onView, onFailure);
  using _leaving = onAbort(signal, () => found.reject(abortReason(signal, last, failure, options)));
  try {
    return await found.promise;
  } finally {
    unlisten();
    ended.abort();
  }
}

/**
 * Why a start was aborted; for a timeout with the start's progress.
 *
 * @param last the last known description of the task
 * @param failure the error of the last look at the task; undefined if the cloud answered
 */
function abortReason(
  signal: AbortSignal,
  last: TaskView | undefined,
  failure: unknown,
  { cloud, finder }: AwaitOptions,
): unknown {
  if (!(signal.reason instanceof StartTimeout)) {
    return signal.reason;
  }
  if (failure !== undefined) {
    const before = last === undefined ? "" : ` (it was ${last.status} before)`;
    return systemError(
      `${messageOf(signal.reason)}: ${cloud.names.service} does not tell of it${before}: ${messageOf(failure)}`,
      failure,
    );
  }
  const { service } = cloud.names;
  const state =
    last === undefined
      ? `${service} does not show it`
      : last.address === undefined
        ? `it is ${last.status}`
        : `it is ${last.status}, and ${finder.describeSilence(last.address)}`;
  return systemError(`${messageOf(signal.reason)}: ${state}`, signal.reason);
}
