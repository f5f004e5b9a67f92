/** A cloud for unit tests: each call is a function. */
import { type CallOutcome, CloudError } from "../contract/cloud-error.ts";
import type { CloudTasks, TaskRefusal, TaskView } from "../contract/cloud-tasks.ts";
import type { Prospect } from "../contract/start-prospect.ts";
import { endsUnreported } from "../../driver/ready-made-roles.ts";

/** The answer of a cloud that refuses a task. */
export function refusal(reason: string, prospect: Prospect = "passes", outcome?: CallOutcome): TaskRefusal {
  return { reason, prospect, cause: outcome && failedCall(outcome, reason, prospect) };
}

/** The cloud's words for an exhausted quota. */
export const noRoom = "there is no room for more tasks";

/** A cloud with these calls; any other call fails. */
export function testCloud(calls: Partial<CloudTasks> = {}): CloudTasks {
  const unexpected = (call: string) => (): Promise<never> =>
    Promise.reject(new Error(`unexpected call of ${call}`));
  return {
    names: { service: "Nimbus", run: "StartTask", place: "sky", log: "NimbusLog", section: "nimbus" },
    describedAtOnce: 100,
    tellsPhases: true,
    run: unexpected("run"),
    stop: unexpected("stop"),
    onEnd: endsUnreported,
    describe: unexpected("describe"),
    listOwn: unexpected("listOwn"),
    isAnyRunning: unexpected("isAnyRunning"),
    logStreamOf: (task) => `stream of ${task}`,
    grantDelayMs: 10_000,
    ...calls,
  };
}

/** A cloud's description of a task that is coming up, except for the given fields. */
export function taskView(given: Partial<TaskView> = {}): TaskView {
  return {
    task: "task/1",
    status: "PENDING",
    isUntold: false,
    stopping: false,
    stopped: false,
    isReasonTold: false,
    instance: "one",
    containerId: "",
    generation: 0n,
    address: undefined,
    exitCode: undefined,
    outOfMemory: "",
    interruption: "",
    reason: "",
    prospect: "passes",
    stoppedAt: undefined,
    times: {},
    ...given,
  };
}

class FailedCall extends CloudError {
  readonly outcome: CallOutcome;
  readonly #prospect: Prospect;

  constructor(outcome: CallOutcome, message: string, prospect: Prospect) {
    super(outcome === "throttled" ? "unavailable" : "system", message);
    this.outcome = outcome;
    this.#prospect = prospect;
  }

  override get prospect(): Prospect {
    return this.#prospect;
  }
}

/** A failed call. @param prospect of a refusal */
export function failedCall(
  outcome: CallOutcome,
  message: string = outcome,
  prospect: Prospect = "lasts",
): CloudError {
  return new FailedCall(outcome, message, prospect);
}
