/** A cloud for unit tests: each call is a function. */
import { type CallOutcome, CloudError } from "../cloud-error.ts";
import type { CloudTasks, TaskView } from "../cloud-tasks.ts";
import type { StartTrouble } from "../start-troubles.ts";

/** Words that end an account's room for tasks. */
export const noRoom = "there is no room for more tasks";

const troubles: readonly StartTrouble[] = [
  {
    name: "no-room",
    words: new RegExp(noRoom),
    seen: ["call", "end"],
    again: "room",
    kind: "unavailable",
    told: "the sky is full",
  },
  {
    name: "fog",
    words: /the fog is too thick/,
    seen: ["call", "end"],
    again: { most: 3, firstPauseMs: 2_000 },
    kind: "system",
    told: "nothing flies in fog",
  },
  {
    name: "calm",
    words: /there is no wind/,
    seen: ["call", "end"],
    again: { most: 3, firstPauseMs: 2_000 },
    kind: "unavailable",
    told: "nothing sails without wind",
    lacksCapacity: true,
  },
];

/** A cloud whose calls are these; any other that is made fails. */
export function testCloud(calls: Partial<CloudTasks> = {}): CloudTasks {
  const unexpected = (call: string) => (): Promise<never> =>
    Promise.reject(new Error(`unexpected call of ${call}`));
  return {
    names: { service: "Nimbus", run: "StartTask", place: "sky", log: "NimbusLog", section: "nimbus" },
    describedAtOnce: 100,
    tellsPhases: true,
    run: unexpected("run"),
    stop: unexpected("stop"),
    describe: unexpected("describe"),
    listOwn: unexpected("listOwn"),
    isAnyRunning: unexpected("isAnyRunning"),
    logStreamOf: (task) => `stream of ${task}`,
    troubles,
    ...calls,
  };
}

/** A task as the cloud tells of it: one that comes up, but for what is given. */
export function taskView(given: Partial<TaskView> = {}): TaskView {
  return {
    task: "task/1",
    status: "PENDING",
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
    neverRan: true,
    stoppedAt: undefined,
    times: {},
    ...given,
  };
}

class FailedCall extends CloudError {
  readonly outcome: CallOutcome;

  constructor(outcome: CallOutcome, message: string) {
    super(outcome === "throttled" ? "unavailable" : "system", message);
    this.outcome = outcome;
  }
}

/** A call that has failed. */
export function failedCall(outcome: CallOutcome, message: string = outcome): CloudError {
  return new FailedCall(outcome, message);
}
