/** Why a task is no more, in the words that a user of Docker reads. */
import { SockerlessError, systemError, unavailable } from "../../../common/errors.ts";
import type { FoundExit } from "../../common/driver.ts";
import type { TaskView } from "./task-view.ts";

/** AWS tells no exit code: never 0, because nobody saw it succeed. */
const unknownExit = 255;
/** 128 + SIGKILL. */
const killedExit = 137;

/** Words in AWS's reasons that mean: the same start may succeed later. */
const noCapacity = /capacity is unavailable|RESOURCE:|insufficient capacity/i;
/** The account's quota of vCPU, in the words of RunTask. */
const quota = /limit on the number of (vCPUs|tasks)/i;

/** EC2's words, in ECS' reason for the end of a task, where it has no network interface or no address to give. */
const noInterface = /NetworkInterfaceLimitExceeded|InsufficientFreeAddressesInSubnet/;

/** Whether a task has ended because there was no room for its network interface. */
function lacksInterface(task: TaskView): boolean {
  return task.stopCode === "TaskFailedToStart" && noInterface.test(reasonOf(task));
}

/** Whether AWS refuses tasks because the account runs as many as it may. */
export function isQuota(reason: string): boolean {
  return quota.test(reason);
}

/**
 * The failure of a start.
 *
 * @param reason AWS's words
 */
export function startFailure(reason: string, cause?: unknown): SockerlessError {
  const message = `failed to start a task for the container: ${reason}`;
  return noCapacity.test(reason) || noInterface.test(reason) || isQuota(reason)
    ? unavailable(message, cause)
    : systemError(message, cause);
}

/** A task got no network interface: another may get one later. */
export class NoInterface extends SockerlessError {
  /** AWS's words. */
  readonly reason: string;

  constructor(reason: string) {
    const { kind, message } = startFailure(reason);
    super(kind, message);
    this.reason = reason;
  }
}

/** The failure of a start whose task ended before its agent answered. */
export function failureOfTask(task: TaskView): SockerlessError {
  return lacksInterface(task) ? new NoInterface(reasonOf(task)) : startFailure(reasonOf(task));
}

/** Everything that AWS says about a task's end, each thing once. */
function reasonOf(task: TaskView): string {
  const said = [task.stoppedReason, ...task.containerReasons].filter((text) => text !== "");
  const reasons = [...new Set(said)].filter(
    (text) => !said.some((other) => other !== text && other.includes(text)),
  );
  const main =
    task.exitCode === undefined ? [] : [`the agent ended with exit code ${task.exitCode} before it answered`];
  const all = [...reasons, ...(task.stopCode === "TaskFailedToStart" ? [] : main)];
  return all.length > 0 ? all.join("; ") : `the task stopped (${task.stopCode || task.status})`;
}

/** How the container of a stopped task ended, as far as AWS knows. */
export function exitOfTask(task: TaskView, now: Date): Required<FoundExit> {
  const oomKilled = /out ?of ?memory/i.test(task.mainReason);
  const interrupted = interruptionOf(task);
  const finishedAt = task.stoppedAt ?? now;
  if (task.exitCode === undefined) {
    return {
      code: oomKilled ? killedExit : unknownExit,
      oomKilled,
      finishedAt,
      error: reasonOf(task),
    };
  }
  return {
    code: interrupted !== "" && task.exitCode === 0 ? unknownExit : task.exitCode,
    oomKilled,
    finishedAt,
    error: interrupted || (oomKilled ? task.mainReason : ""),
  };
}

/** What AWS, or somebody in ECS, has done to a task; empty: it ended by itself, or by us. */
export function interruptionOf({ stopCode, stoppedReason }: TaskView): string {
  if (stopCode === "UserInitiated") {
    return stoppedReason.startsWith(ownReason) ? "" : told("the task was stopped in ECS", stoppedReason);
  }
  const words = interruptions[stopCode];
  return words === undefined ? "" : told(words, stoppedReason);
}

function told(words: string, reason: string): string {
  return reason === "" ? words : `${words}: ${reason}`;
}

/** Begins the reasons that this backend gives when it stops a task. */
export const ownReason = "sockerless: ";

const interruptions: Readonly<Record<string, string>> = {
  SpotInterruption: "the task was interrupted, because AWS took its Spot capacity back",
  TerminationNotice: "the task was ended by AWS",
};
