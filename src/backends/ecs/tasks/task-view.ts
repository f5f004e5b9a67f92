/** A task as AWS describes it, reduced to what matters here. */
import type { Container, Task } from "@aws-sdk/client-ecs";

import { mainContainerName } from "../definitions/definition.ts";
import { containerVariable, generationVariable } from "./variables.ts";

/** What is known of a task. */
export interface TaskView {
  readonly arn: string;
  /** `PROVISIONING` … `STOPPED`. */
  readonly status: string;
  /** Nothing will make it run (again). */
  readonly stopping: boolean;
  readonly stopped: boolean;
  readonly startedBy: string;
  /** From the environment that it was started with; empty where it is not ours. */
  readonly containerId: string;
  readonly generation: bigint;
  /** Of its network interface; undefined while it has none. */
  readonly address: string | undefined;
  /** Exit code of the main container; undefined while it runs, or where it never did. */
  readonly exitCode: number | undefined;
  /** AWS's word for the main container's end: `OutOfMemoryError: …`. */
  readonly mainReason: string;
  /** What AWS says of containers that did not do as they should, the main one's first. */
  readonly containerReasons: readonly string[];
  /** `TaskFailedToStart`, `EssentialContainerExited`, `UserInitiated`, `SpotInterruption`, … */
  readonly stopCode: string;
  readonly stoppedReason: string;
  readonly stoppedAt: Date | undefined;
}

/** Reads AWS's description of a task. */
export function viewOf(task: Task): TaskView {
  const main = task.containers?.find(({ name }) => name === mainContainerName);
  const environment = environmentOf(task);
  return {
    arn: task.taskArn ?? "",
    status: task.lastStatus ?? "",
    stopping: task.desiredStatus === "STOPPED",
    stopped: task.lastStatus === "STOPPED",
    startedBy: task.startedBy ?? "",
    containerId: environment.get(containerVariable) ?? "",
    generation: BigInt(/^\d+$/.exec(environment.get(generationVariable) ?? "")?.[0] ?? 0),
    address: addressOf(task, main),
    exitCode: main?.exitCode,
    mainReason: main?.reason ?? "",
    containerReasons: [main, ...(task.containers ?? []).filter((each) => each !== main)]
      .map((each) => each?.reason ?? "")
      .filter((reason) => reason !== ""),
    stopCode: task.stopCode ?? "",
    stoppedReason: task.stoppedReason ?? "",
    stoppedAt: task.stoppedAt ?? task.executionStoppedAt,
  };
}

/** Whether a task's main container has ended: that of one that is stopping may still run. */
export function hasEnded({ stopped, stopping, exitCode }: TaskView): boolean {
  return stopped || (stopping && exitCode !== undefined);
}

function environmentOf(task: Task): ReadonlyMap<string, string> {
  const main = task.overrides?.containerOverrides?.find(({ name }) => name === mainContainerName);
  return new Map((main?.environment ?? []).map(({ name = "", value = "" }) => [name, value]));
}

function addressOf(task: Task, main: Container | undefined): string | undefined {
  const attached = task.attachments
    ?.find(({ type }) => type === "ElasticNetworkInterface")
    ?.details?.find(({ name }) => name === "privateIPv4Address")?.value;
  const address = attached ?? main?.networkInterfaces?.[0]?.privateIpv4Address;
  return address === "" ? undefined : address;
}
