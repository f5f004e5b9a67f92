/** A task's definition and overrides as the machine takes them. */
import type { ContainerDefinition } from "@aws-sdk/client-ecs";

import type { Bind } from "../../../common/machine/bundle.ts";
import { fargateEnvironment } from "./fargate-host.ts";
import type { Image } from "../../../common/machine/images.ts";
import type { Limits } from "../../../common/machine/limits.ts";
import type { TaskContainerSpec } from "../../../common/machine/task.ts";
import type { Given } from "../../wire/service.ts";
import { cpuUnits, memoryMib } from "./sizes.ts";
import type { TaskState } from "./task-state.ts";

const mib = 2 ** 20;
const defaultStopTimeoutSeconds = 30;
const defaultHealth = { interval: 30, timeout: 5, retries: 3, startPeriod: 0 };

/** Supplies for the containers of a task that come neither from its definition nor its overrides. */
export interface TaskSupplies {
  readonly region: string;
  readonly images: ReadonlyMap<string, Image>;
  /** Directories of the volumes by name. */
  readonly volumes: ReadonlyMap<string, { readonly directory: string; readonly readOnly: boolean }>;
  readonly limits: Limits;
  /** Whether the CPUs of a task's size bound what it may use of the machine. */
  readonly enforcesCpu: boolean;
  /** Values of `secrets`, by container and variable. */
  readonly secrets: ReadonlyMap<string, Readonly<Record<string, string>>>;
  /** ID in the path `169.254.170.2/v2/credentials/…`, for a task with a role. */
  readonly credentialsId: string | undefined;
}

/** Bytes of memory that a task has on the machine. */
export function taskMemory({ overrides, definition }: TaskState, limits: Limits): number {
  return limits.memory("", (memoryMib(overrides.memory ?? definition.memory ?? "") ?? 512) * mib);
}

/** The containers of a task. */
export function containerSpecs(task: TaskState, supplies: TaskSupplies): TaskContainerSpec[] {
  const { definition, overrides } = task;
  const units = cpuUnits(overrides.cpu ?? definition.cpu ?? "") ?? 256;
  const wholeMemory = taskMemory(task, supplies.limits);
  return (definition.containerDefinitions ?? []).map((container): TaskContainerSpec => {
    const { name = "", linuxParameters: linux = {}, healthCheck: health } = container;
    const override = overrides.containerOverrides?.find((each) => each.name === name);
    const image = supplies.images.get(name);
    if (image === undefined) {
      throw new Error(`container ${name} has no image`);
    }
    const memory = override?.memory ?? container.memory;
    const command = override?.command ?? container.command;
    return {
      name,
      image,
      ...(container.entryPoint !== undefined && { entryPoint: container.entryPoint }),
      ...(command !== undefined && { command }),
      environment: {
        ...fargateEnvironment(supplies.region, `${task.id}-${name}`, supplies.credentialsId),
        ...variables(container.environment),
        ...supplies.secrets.get(name),
        ...variables(override?.environment),
      },
      ...(container.user !== undefined && { user: container.user }),
      ...(container.workingDirectory !== undefined && { workingDirectory: container.workingDirectory }),
      readonlyRootFilesystem: container.readonlyRootFilesystem ?? false,
      binds: bindsOf(container, supplies),
      tmpfs: (linux.tmpfs ?? []).map(({ containerPath = "", size = 0, mountOptions = [] }) => ({
        target: containerPath,
        sizeBytes: size * mib,
        options: mountOptions.filter((option) => option !== "defaults"),
      })),
      ulimits: ulimitsOf(container, supplies.limits),
      sysctls: Object.fromEntries(
        (container.systemControls ?? []).map(({ namespace = "", value = "" }) => [namespace, value]),
      ),
      addCapabilities: linux.capabilities?.add ?? [],
      dropCapabilities: linux.capabilities?.drop ?? [],
      init: linux.initProcessEnabled ?? false,
      memoryLimit: memory === undefined ? wholeMemory : supplies.limits.memory(name, memory * mib),
      cpuShares: Math.max(2, override?.cpu ?? (container.cpu || units)),
      ...(supplies.enforcesCpu && { cpus: supplies.limits.cpus(name, units) }),
      essential: container.essential ?? true,
      dependsOn: (container.dependsOn ?? []).map(({ containerName = "", condition = "START" }) => ({
        containerName,
        condition,
      })),
      ...(container.startTimeout !== undefined && { startTimeoutMs: container.startTimeout * 1000 }),
      stopTimeoutMs: (container.stopTimeout ?? defaultStopTimeoutSeconds) * 1000,
      ...(health !== undefined && {
        healthCheck: {
          command: health.command ?? [],
          intervalMs: (health.interval ?? defaultHealth.interval) * 1000,
          timeoutMs: (health.timeout ?? defaultHealth.timeout) * 1000,
          retries: health.retries ?? defaultHealth.retries,
          startPeriodMs: (health.startPeriod ?? defaultHealth.startPeriod) * 1000,
        },
      }),
    };
  });
}

function bindsOf({ mountPoints = [] }: Given<ContainerDefinition>, { volumes }: TaskSupplies): Bind[] {
  return mountPoints.map(({ sourceVolume = "", containerPath = "", readOnly = false }) => {
    const volume = volumes.get(sourceVolume);
    if (volume === undefined) {
      throw new Error(`volume ${sourceVolume} is not there`);
    }
    return { source: volume.directory, target: containerPath, readOnly: readOnly || volume.readOnly };
  });
}

/** Fargate gives every container 65,535 open files. */
function ulimitsOf({ name = "", ulimits = [] }: Given<ContainerDefinition>, limits: Limits) {
  const asked = ulimits.map((each) => ({
    name: each.name ?? "nofile",
    soft: each.softLimit ?? 0,
    hard: each.hardLimit ?? 0,
  }));
  const files = asked.some((each) => each.name === "nofile")
    ? []
    : [{ name: "nofile", soft: 65_535, hard: 65_535 }];
  return [...files, ...asked].map((ulimit) => limits.ulimit(name, ulimit));
}

function variables(
  environment: readonly { readonly name?: string; readonly value?: string }[] | undefined,
): Record<string, string> {
  return Object.fromEntries((environment ?? []).map(({ name = "", value = "" }) => [name, value]));
}
