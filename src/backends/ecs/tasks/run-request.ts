/** The `RunTask` request that starts a container's task. */
import { createHash } from "node:crypto";

import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { mainContainerName } from "../definitions/definition.ts";
import { ephemeralStorageOf } from "../definitions/ephemeral-storage.ts";
import { taskSizeOf } from "../definitions/sizes.ts";
import { type AgentSettings, agentEnvironment } from "../../cloud/agents/agent-environment.ts";

/** Settings that all starts of this backend have in common. */
export interface RunSettings extends AgentSettings {
  readonly cluster: string;
  readonly subnets: readonly string[];
  readonly assignPublicIp: boolean;
  readonly capacityProvider: string;
  /** Whether a task that Spot has no capacity for runs on demand. */
  readonly spotFallback: boolean;
  readonly platformVersion: string;
  readonly taskRoleArn: string | undefined;
  /** Names this instance of sockerless: tasks are known again by it. */
  readonly instance: string;
}

/** Makes the request to start a container's task: always the same for the same start. */
export function runRequest(
  record: ContainerRecord,
  definitionArn: string,
  securityGroups: readonly string[],
  settings: RunSettings,
): RunTaskCommandInput {
  const { hostConfig } = record;
  const size = taskSizeOf(hostConfig?.resources);
  const disk = ephemeralStorageOf(hostConfig?.storageOpt ?? {});
  return {
    cluster: settings.cluster,
    taskDefinition: definitionArn,
    count: 1,
    ...capacityOf(settings.capacityProvider),
    platformVersion: settings.platformVersion,
    networkConfiguration: {
      awsvpcConfiguration: {
        subnets: [...settings.subnets],
        securityGroups: [...securityGroups],
        assignPublicIp: settings.assignPublicIp ? "ENABLED" : "DISABLED",
      },
    },
    startedBy: settings.instance,
    clientToken: clientTokenOf(record),
    overrides: {
      cpu: String(size.cpu),
      memory: String(size.memory),
      ...(settings.taskRoleArn === undefined ? {} : { taskRoleArn: settings.taskRoleArn }),
      ...(disk === undefined ? {} : { ephemeralStorage: { sizeInGiB: disk } }),
      containerOverrides: [{ name: mainContainerName, environment: agentEnvironment(record, settings) }],
    },
  };
}

/** The part of a request that says what its task runs on. */
export type Capacity = Pick<RunTaskCommandInput, "capacityProviderStrategy" | "launchType">;

/** The launch type or capacity provider: Fargate needs no provider in the cluster, Spot is to be had by one only. */
export function capacityOf(provider: string): Capacity {
  return provider === "FARGATE"
    ? { launchType: "FARGATE" }
    : { capacityProviderStrategy: [{ capacityProvider: provider, weight: 1 }] };
}

/** One token for each start of a container. */
function clientTokenOf(record: ContainerRecord): string {
  return createHash("sha256").update(`${record.id}:${record.generation}`).digest("hex");
}
