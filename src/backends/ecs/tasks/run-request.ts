/** The `RunTask` request that starts a container's task. */
import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { mainContainerName } from "../definitions/definition.ts";
import { ephemeralStorageOf } from "../definitions/ephemeral-storage.ts";
import { taskSizeOf } from "../definitions/sizes.ts";
import { newId } from "../../../common/ids.ts";
import { type AgentSettings, agentEnvironment } from "../../cloud/agents/agent-environment.ts";

/** Settings shared by all starts of this backend. */
export interface RunSettings extends AgentSettings {
  readonly cluster: string;
  readonly subnets: readonly string[];
  readonly assignPublicIp: boolean;
  readonly capacityProvider: string;
  /** Whether a task runs on demand if Spot has no capacity. */
  readonly spotFallback: boolean;
  readonly platformVersion: string;
  readonly taskRoleArn: string | undefined;
  /** Identifies the tasks of this instance of sockerless. */
  readonly instance: string;
}

/** A request that starts a container's task, by a token that no earlier request has had. */
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
    clientToken: newId(), // After the restore of a backup a start may have the number of one that has ended.
    overrides: {
      cpu: String(size.cpu),
      memory: String(size.memory),
      ...(settings.taskRoleArn === undefined ? {} : { taskRoleArn: settings.taskRoleArn }),
      ...(disk === undefined ? {} : { ephemeralStorage: { sizeInGiB: disk } }),
      containerOverrides: [{ name: mainContainerName, environment: agentEnvironment(record, settings) }],
    },
  };
}

/** The part of a request that determines the task's capacity. */
export type Capacity = Pick<RunTaskCommandInput, "capacityProviderStrategy" | "launchType">;

/** The launch type or capacity provider: Fargate needs no provider in the cluster, while Spot requires one. */
export function capacityOf(provider: string): Capacity {
  return provider === "FARGATE"
    ? { launchType: "FARGATE" }
    : { capacityProviderStrategy: [{ capacityProvider: provider, weight: 1 }] };
}
