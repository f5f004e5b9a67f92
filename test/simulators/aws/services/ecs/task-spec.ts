/** A task's definition and overrides as the machine takes them. */
import type { ContainerDefinition } from "@aws-sdk/client-ecs";

import type { Bind } from "../../../common/machine/bundle.ts";
import { fargateEnvironment } from "./fargate-host.ts";
import type { Image } from "../../../common/machine/images.ts";
import { givenUlimit, memoryLimit } from "../../../common/machine/limits.ts";
import type { TaskContainerSpec } from "../../../common/machine/task.ts";
import type { Given } from "../../wire/service.ts";
import { cpuUnits, memoryMib } from "./sizes.ts";
import type { TaskState } from "./task-state.ts";

const mib = 2 ** 20;
const defaultStopTimeoutSeconds = 30;

/** Supplies for the containers of a task that come neither from its definition nor its overrides. */
export interface TaskSupplies {
  readonly region: string;
  readonly images: ReadonlyMap<string, Image>;
  /** Directories of the volumes by name. */
  readonly volumes: ReadonlyMap<string, { readonly directory: string; readonly readOnly: boolean }>;
  /** ID in the path `169.254.170.2/v2/credentials/…`, for a task with a role. */
  readonly credentialsId: string | undefined;
}

/** Bytes of memory that a task has on the machine. */
export function taskMemory({ overrides, definition }: TaskState): number {
  return memoryLimit((memoryMib(overrides.memory ?? definition.memory ?? "") ?? 512) * mib);
}

/** The containers of a task. */
export function containerSpecs(task: TaskState, supplies: TaskSupplies): TaskContainerSpec[] {
  const { definition, overrides } = task;
  const units = cpuUnits(overrides.cpu ?? definition.cpu ?? "") ?? 256;
  return (definition.containerDefinitions ?? []).map((container): TaskContainerSpec => {
    const { name = "", linuxParameters: linux = {} } = container;
    const override = overrides.containerOverrides?.find((each) => each.name === name);
    const image = supplies.images.get(name);
    if (image === undefined) {
      throw new Error(`container ${name} has no image`);
    }
    const command = override?.command ?? container.command;
    return {
      name,
      image,
      ...(container.entryPoint !== undefined && { entryPoint: container.entryPoint }),
      ...(command !== undefined && { command }),
      environment: {
        ...fargateEnvironment(supplies.region, supplies.credentialsId),
        ...variables(container.environment),
        ...variables(override?.environment),
      },
      ...(container.user !== undefined && { user: container.user }),
      readonlyRootFilesystem: container.readonlyRootFilesystem ?? false,
      binds: bindsOf(container, supplies),
      tmpfs: (linux.tmpfs ?? []).map(({ containerPath = "", size = 0, mountOptions = [] }) => ({
        target: containerPath,
        sizeBytes: size * mib,
        options: mountOptions.filter((option) => option !== "defaults"),
      })),
      ulimits: ulimitsOf(container),
      sysctls: Object.fromEntries(
        (container.systemControls ?? []).map(({ namespace = "", value = "" }) => [namespace, value]),
      ),
      addCapabilities: linux.capabilities?.add ?? [],
      memoryLimit: taskMemory(task),
      cpuShares: units,
      essential: container.essential ?? true,
      dependsOn: (container.dependsOn ?? []).map(({ containerName = "" }) => containerName),
      stopTimeoutMs: (container.stopTimeout ?? defaultStopTimeoutSeconds) * 1000,
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
function ulimitsOf({ ulimits = [] }: Given<ContainerDefinition>) {
  const asked = ulimits.map((each) => ({
    name: each.name ?? "nofile",
    soft: each.softLimit ?? 0,
    hard: each.hardLimit ?? 0,
  }));
  const files = asked.some((each) => each.name === "nofile")
    ? []
    : [{ name: "nofile", soft: 65_535, hard: 65_535 }];
  return [...files, ...asked].map(givenUlimit);
}

function variables(
  environment: readonly { readonly name?: string; readonly value?: string }[] | undefined,
): Record<string, string> {
  return Object.fromEntries((environment ?? []).map(({ name = "", value = "" }) => [name, value]));
}
