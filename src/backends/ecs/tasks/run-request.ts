/** What AWS is asked when a container starts. */
import { createHash } from "node:crypto";

import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { logSettings } from "../../common/logging/log-settings.ts";
import { mainContainerName } from "../definitions/definition.ts";
import { ephemeralStorageOf } from "../definitions/ephemeral-storage.ts";
import { taskSizeOf } from "../definitions/sizes.ts";
import {
  containerVariable,
  generationVariable,
  logFilesVariable,
  logSizeVariable,
  pinVariable,
  startTimeoutVariable,
  stopSignalVariable,
} from "./variables.ts";

/** What all starts of this backend have in common. */
export interface RunSettings {
  readonly cluster: string;
  readonly subnets: readonly string[];
  readonly assignPublicIp: boolean;
  readonly capacityProvider: string;
  readonly platformVersion: string;
  readonly taskRoleArn: string | undefined;
  /** Names this instance of sockerless: tasks are known again by it. */
  readonly instance: string;
  /** SHA-256 of the public key of the authority over the agents. */
  readonly authorityPin: Uint8Array;
  /** How long this backend tries to start a container, milliseconds. */
  readonly startTimeoutMs: number;
  /** How long a start waits for the account's quota at most, milliseconds. */
  readonly quotaTimeoutMs: number;
}

/** An agent waits so much longer than its backend tries, in which files are unpacked and attachments come. */
const agentMarginS = 120;

/** Makes the request to start a container's task: the same for the same start, whoever asks. */
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
      containerOverrides: [{ name: mainContainerName, environment: environmentOf(record, settings) }],
    },
  };
}

/** Fargate needs no capacity provider in the cluster; Spot is to be had by one only. */
function capacityOf(provider: string): Pick<RunTaskCommandInput, "capacityProviderStrategy" | "launchType"> {
  return provider === "FARGATE"
    ? { launchType: "FARGATE" }
    : { capacityProviderStrategy: [{ capacityProvider: provider, weight: 1 }] };
}

/** One token for each start of a container. */
function clientTokenOf(record: ContainerRecord): string {
  return createHash("sha256").update(`${record.id}:${record.generation}`).digest("hex");
}

function environmentOf(record: ContainerRecord, settings: RunSettings) {
  const stopSignal = record.config?.stopSignal ?? "";
  return [
    { name: containerVariable, value: record.id },
    { name: generationVariable, value: String(record.generation) },
    { name: pinVariable, value: `sha256/${Buffer.from(settings.authorityPin).toString("base64")}` },
    {
      name: startTimeoutVariable,
      value: `${Math.ceil(settings.startTimeoutMs / 1000) + agentMarginS}s`,
    },
    ...(stopSignal === "" ? [] : [{ name: stopSignalVariable, value: stopSignal }]),
    ...logLimitsOf(record),
  ];
}

/** Of a container that has no limit the agent keeps what it keeps by default. */
function logLimitsOf({ hostConfig }: ContainerRecord) {
  const { maxSize, maxFiles } = logSettings(hostConfig?.logConfig);
  return maxSize === 0n
    ? []
    : [
        { name: logSizeVariable, value: String(maxSize) },
        { name: logFilesVariable, value: String(maxFiles) },
      ];
}
