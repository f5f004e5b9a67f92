import type { Container, Task } from "@aws-sdk/client-ecs";

import { containerVariable, generationVariable } from "../../common/cloud/agents/agent-environment.ts";
import type { TaskView } from "../../common/cloud/cloud-tasks.ts";
import { mainContainerName } from "../definitions/definition.ts";
import { interruptionOf, neverRan, outOfMemory, reasonOf } from "./reasons.ts";

const onlyIpv6 =
  "its network interface has an IPv6 address alone, and agents are reached by IPv4: set ecs.subnets to subnets with IPv4, alone or beside IPv6";

/** Reads AWS's description of a task. */
export function viewOf(task: Task): TaskView {
  const main = task.containers?.find(({ name }) => name === mainContainerName);
  const environment = environmentOf(task);
  return {
    task: task.taskArn ?? "",
    status: task.lastStatus ?? "",
    stopping: task.desiredStatus === "STOPPED",
    stopped: task.lastStatus === "STOPPED",
    isReasonTold: (task.stopCode ?? "") !== "",
    instance: task.startedBy ?? "",
    containerId: environment.get(containerVariable) ?? "",
    generation: BigInt(/^\d+$/.exec(environment.get(generationVariable) ?? "")?.[0] ?? 0),
    address: addressOf(task, main),
    unreachable: addressOf(task, main) === undefined && hasIpv6(main) ? onlyIpv6 : "",
    exitCode: main?.exitCode,
    outOfMemory: outOfMemory(task),
    interruption: interruptionOf(task),
    reason: reasonOf(task),
    neverRan: neverRan(task),
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

/** The IPv4 address of the task's network interface; undefined: it has none yet. */
function addressOf(task: Task, main: Container | undefined): string | undefined {
  const attached = task.attachments
    ?.find(({ type }) => type === "ElasticNetworkInterface")
    ?.details?.find(({ name }) => name === "privateIPv4Address")?.value;
  const address = attached ?? main?.networkInterfaces?.[0]?.privateIpv4Address;
  return address === "" ? undefined : address;
}

function hasIpv6(main: Container | undefined): boolean {
  return (main?.networkInterfaces?.[0]?.ipv6Address ?? "") !== "";
}
