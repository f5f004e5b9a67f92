/** Errors of operations that a container's state forbids, in Docker's words. Pure. */
import { statusName } from "../../../../../common/container-status.ts";
import { conflict, notModified, systemError } from "../../../../../common/errors.ts";
import { ContainerStatus } from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { hasProcess, isActive, stateOf } from "../../../../model/records.ts";

/** @returns why the container cannot be started */
export function startRefusal(record: ContainerRecord, removing: boolean): Error | undefined {
  const { status } = stateOf(record);
  if (status === ContainerStatus.PAUSED) {
    return conflict("cannot start a paused container, try unpause instead");
  }
  if (isActive(record)) {
    return notModified("container is already running");
  }
  if (removing || status === ContainerStatus.REMOVING || status === ContainerStatus.DEAD) {
    return conflict("container is marked for removal and cannot be started");
  }
  return undefined;
}

/** @returns why the container cannot be stopped */
export function stopRefusal(record: ContainerRecord): Error | undefined {
  return isActive(record) ? undefined : notModified("container is already stopped");
}

/** @returns why the container has no process to signal, resize or look into */
export function processRefusal(record: ContainerRecord): Error | undefined {
  return hasProcess(record) ? undefined : conflict(`container ${record.id} is not running`);
}

/** @returns why no exec can be created or started in the container */
export function execRefusal(record: ContainerRecord, reference: string): Error | undefined {
  const { status } = stateOf(record);
  if (status === ContainerStatus.PAUSED) {
    return conflict(`Container ${reference} is paused, unpause the container before exec`);
  }
  return restartingRefusal(record) ?? processRefusal(record);
}

/** @returns why the container cannot be paused */
export function pauseRefusal(record: ContainerRecord): Error | undefined {
  const { status } = stateOf(record);
  if (status === ContainerStatus.PAUSED) {
    return conflict(`Container ${record.id} is already paused`);
  }
  return restartingRefusal(record) ?? processRefusal(record);
}

/** @returns why the container cannot be unpaused; for a container that is not paused Docker answers 500 */
export function unpauseRefusal(record: ContainerRecord): Error | undefined {
  return stateOf(record).status === ContainerStatus.PAUSED
    ? undefined
    : systemError(`Container ${record.id} is not paused`);
}

/** @returns why the container's processes cannot be listed */
export function topRefusal(record: ContainerRecord): Error | undefined {
  return restartingRefusal(record) ?? processRefusal(record);
}

/** @returns why the container's settings cannot be changed */
export function updateRefusal(record: ContainerRecord, removing: boolean): Error | undefined {
  const { status } = stateOf(record);
  return removing || status === ContainerStatus.REMOVING || status === ContainerStatus.DEAD
    ? conflict('container is marked for removal and cannot be "update"')
    : undefined;
}

function restartingRefusal(record: ContainerRecord): Error | undefined {
  return stateOf(record).status === ContainerStatus.RESTARTING
    ? conflict(`Container ${record.id} is restarting, wait until the container is running`)
    : undefined;
}

/** @returns why a client cannot attach to the container */
export function attachRefusal(record: ContainerRecord, reference: string): Error | undefined {
  const { status } = stateOf(record);
  if (status === ContainerStatus.PAUSED) {
    return conflict(`container ${reference} is paused, unpause the container before attach`);
  }
  if (status === ContainerStatus.RESTARTING) {
    return conflict(`container ${reference} is restarting, wait until the container is running`);
  }
  return undefined;
}

/** @returns why the container cannot be removed without force */
export function removeRefusal(record: ContainerRecord, reference: string): Error | undefined {
  if (!isActive(record)) {
    return undefined;
  }
  const reason =
    stateOf(record).status === ContainerStatus.PAUSED
      ? "container is paused and must be unpaused first"
      : `container is ${statusName(stateOf(record).status)}: stop the container before removing or force remove`;
  return conflict(`cannot remove container ${JSON.stringify(reference)}: ${reason}`);
}
