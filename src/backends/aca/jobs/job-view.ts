/** Azure's descriptions of job executions, as tasks. Pure. */
import type { JobExecution } from "@azure/arm-appcontainers";

import type { TaskView } from "../../cloud/contract/cloud-tasks.ts";
import type { Preparation } from "../../cloud/contract/prepared-tasks.ts";
import { formatTask, type TaskName } from "../tags.ts";

/** The part of a job that is needed to interpret its executions. */
export interface JobFacts {
  /** The instance that created it; empty if it is not sockerless'. */
  readonly instance: string;
  /** The container that it was created for, or that has claimed it; empty if none. */
  readonly containerId: string;
  readonly generation: bigint;
  /** Undefined if it was created for a container. */
  readonly prepared?: Pick<Preparation, "name" | "shape"> | undefined;
  readonly replicaTimeoutMs: number;
}

/** Known facts about an execution besides its description. */
export interface ExecutionKnowledge {
  /** Its last status other than `Unknown`. */
  readonly lastStatus: string;
  /** The reason for which this backend stopped it; undefined if it did not. */
  readonly stopReason: string | undefined;
  /** Time limit of containers, in milliseconds. */
  readonly containerTimeMs: number;
}

const stoppedStatuses: ReadonlySet<string> = new Set(["Succeeded", "Failed", "Degraded", "Stopped"]);
/** 128 + SIGKILL. */
const killedExit = 137;
/** Azure's times have a resolution of seconds. */
const clockSlackMs = 1_000;

/** Whether an execution has ended. */
export function isOver(status: string): boolean {
  return stoppedStatuses.has(status);
}

/** Converts Azure's description of an execution. */
export function viewOf(
  name: TaskName,
  { status: told = "", startTime, endTime }: Pick<JobExecution, "status" | "startTime" | "endTime">,
  facts: JobFacts,
  { lastStatus, stopReason, containerTimeMs }: ExecutionKnowledge,
): TaskView {
  const isSilent = told === "Unknown" || told === "";
  const status = isSilent ? lastStatus || "Processing" : told;
  const stopped = isOver(status);
  const ranMs =
    startTime === undefined || endTime === undefined ? 0 : endTime.getTime() - startTime.getTime();
  const isTimeout = isFailure(status) && ranMs + clockSlackMs >= facts.replicaTimeoutMs;
  const interruption = isTimeout
    ? `the container was ended by Container Apps: a job's replica may run for ${facts.replicaTimeoutMs / 1000} s (aca.replica_timeout)`
    : status === "Stopped" && stopReason === undefined
      ? "the job's execution was stopped in Azure"
      : "";
  return {
    task: formatTask(name),
    status,
    isUntold: isSilent && !stopped,
    stopping: stopped,
    stopped,
    isReasonTold: stopped,
    instance: facts.instance,
    containerId: facts.containerId,
    generation: facts.generation,
    prepared: facts.prepared && {
      ...facts.prepared,
      claimableUntil: startTime && new Date(startTime.getTime() + facts.replicaTimeoutMs - containerTimeMs),
    },
    address: name.execution,
    exitCode: exitCodeOf(status),
    outOfMemory: "",
    interruption,
    reason: interruption || reasonOf(status, stopReason),
    prospect: isFailure(status) && !isTimeout ? "passes" : "lasts", // Azure reports no reasons of failures.
    stoppedAt: stopped ? endTime : undefined,
    times: { created: startTime },
  };
}

function isFailure(status: string): boolean {
  return status === "Failed" || status === "Degraded";
}

/** Azure reports no exit codes; a failure's code is only in the agent's last line. */
function exitCodeOf(status: string): number | undefined {
  return status === "Succeeded" ? 0 : status === "Stopped" ? killedExit : undefined;
}

function reasonOf(status: string, stopReason: string | undefined): string {
  switch (status) {
    case "Succeeded":
      return "the job's execution ended before its agent answered";
    case "Stopped":
      return `the job's execution was stopped: ${stopReason ?? ""}`;
    default:
      return `the job's execution has failed (${status}); Azure tells why in the environment's system log (ContainerAppSystemLogs_CL)`;
  }
}
