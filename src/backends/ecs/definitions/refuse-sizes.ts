/** Refuses sizes that no task can have, before anything is created. */
import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";
import { ephemeralStorageOf } from "./ephemeral-storage.ts";
import { taskSizeOf } from "./sizes.ts";
import { taskTmpfs } from "./tmpfs.ts";

/** @throws invalid: CPUs, memory, a disk or a tmpfs that a task cannot have */
export function refuseSizes(hostConfig: HostConfig | undefined, mounts: readonly ResolvedMount[]): void {
  const { memory } = taskSizeOf(hostConfig?.resources);
  ephemeralStorageOf(hostConfig?.storageOpt ?? {});
  for (const mount of mounts) {
    if (mount.type === "tmpfs") {
      taskTmpfs(mount, memory);
    }
  }
}
