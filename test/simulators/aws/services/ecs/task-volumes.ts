/** A task's volumes: empty directories of its own, and EFS. */
import { mkdir } from "node:fs/promises";
import path from "node:path";

import type { Cloud, NetworkInterface } from "../../cloud.ts";
import type { Machine } from "../../../common/machine/machine.ts";
import { StartFailed } from "./start-failures.ts";
import type { TaskState } from "./task-state.ts";

/** A volume as containers mount it. */
export interface TaskVolume {
  /** On the machine. */
  readonly directory: string;
  readonly readOnly: boolean;
}

/**
 * Makes or mounts every volume of a task, by name.
 *
 * @throws {StartFailed} when EFS refuses
 */
export async function openVolumes(
  machine: Machine,
  { fileSystems }: Cloud,
  task: TaskState,
  networkInterface: NetworkInterface,
): Promise<ReadonlyMap<string, TaskVolume>> {
  const volumes = new Map<string, TaskVolume>();
  for (const { name = "", efsVolumeConfiguration: efs } of task.definition.volumes ?? []) {
    if (efs === undefined) {
      const directory = path.join(machine.taskDirectory(task.id), "volumes", name);
      await mkdir(directory, { recursive: true, mode: 0o755 });
      volumes.set(name, { directory, readOnly: false });
      continue;
    }
    const taskRoleArn = task.overrides.taskRoleArn ?? task.definition.taskRoleArn;
    const mount = orStartFails(() =>
      fileSystems.mount({
        fileSystemId: efs.fileSystemId ?? "",
        ...(efs.rootDirectory !== undefined && { rootDirectory: efs.rootDirectory }),
        ...(efs.authorizationConfig?.accessPointId !== undefined && {
          accessPointId: efs.authorizationConfig.accessPointId,
        }),
        transitEncryption: efs.transitEncryption === "ENABLED",
        iamEnabled: efs.authorizationConfig?.iam === "ENABLED",
        ...(taskRoleArn !== undefined && { taskRoleArn }),
        networkInterface,
      }),
    );
    const directory = await machine.fileSystems.view(mount);
    volumes.set(name, { directory, readOnly: mount.readOnly });
  }
  return volumes;
}

function orStartFails<T>(mount: () => T): T {
  try {
    return mount();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new StartFailed(
      `ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: ${message}`,
      "TaskFailedToStart",
      error,
    );
  }
}
