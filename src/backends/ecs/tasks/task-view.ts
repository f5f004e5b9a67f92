import type { Container, Task } from "@aws-sdk/client-ecs";

import {
  containerVariable,
  generationVariable,
  preparedVariable,
} from "../../cloud/agents/agent-environment.ts";
import type { TaskView } from "../../cloud/contract/cloud-tasks.ts";
import { mainContainerName } from "../definitions/definition.ts";
import { interruptionOf, outOfMemory, prospectOfEnd, reasonOf } from "./reasons.ts";

/** Converts AWS's description of a task. */
export function viewOf(task: Task): TaskView {
  const main = task.containers?.find(({ name }) => name === mainContainerName);
  const environment = environmentOf(task);
  const shape = environment.get(preparedVariable);
  const name = environment.get(containerVariable) ?? "";
  const claimed = new Map((task.tags ?? []).map(({ key = "", value = "" }) => [key, value]));
  const told = shape === undefined ? environment : claimed;
  return {
    task: task.taskArn ?? "",
    status: task.lastStatus ?? "",
    isUntold: false,
    stopping: task.desiredStatus === "STOPPED",
    stopped: task.lastStatus === "STOPPED",
    isReasonTold: (task.stopCode ?? "") !== "",
    instance: task.startedBy ?? "",
    containerId: told.get(containerVariable) ?? "",
    generation: BigInt(/^\d+$/.exec(told.get(generationVariable) ?? "")?.[0] ?? 0),
    prepared: shape === undefined ? undefined : { name, shape },
    address: addressOf(task, main),
    exitCode: main?.exitCode,
    outOfMemory: outOfMemory(task),
    interruption: interruptionOf(task),
    reason: reasonOf(task),
    prospect: prospectOfEnd(task),
    stoppedAt: task.stoppedAt ?? task.executionStoppedAt,
    times: {
      created: task.createdAt,
      pullStarted: task.pullStartedAt,
      pullStopped: task.pullStoppedAt,
      started: task.startedAt,
    },
  };
}

function environmentOf(task: Task): ReadonlyMap<string, string> {
  const main = task.overrides?.containerOverrides?.find(({ name }) => name === mainContainerName);
  return new Map((main?.environment ?? []).map(({ name = "", value = "" }) => [name, value]));
}

/** The address of the task's network interface: IPv4, or IPv6 if it has no other; undefined if there is none yet. */
function addressOf(task: Task, main: Container | undefined): string | undefined {
  const attached = task.attachments
    ?.find(({ type }) => type === "ElasticNetworkInterface")
    ?.details?.find(({ name }) => name === "privateIPv4Address")?.value;
  const { privateIpv4Address, ipv6Address } = main?.networkInterfaces?.[0] ?? {};
  return attached || privateIpv4Address || ipv6Address || undefined;
}
