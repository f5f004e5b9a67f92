/** Containers whose PID or IPC namespace another one joins (`--pid container:…`, `--ipc container:…`). */
import { conflict, fromUnknown, invalid, SockerlessError, systemError } from "../../../../common/errors.ts";
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { JoinedContainers } from "../../../driver/workload-spec.ts";
import type { State } from "../../../state/state.ts";
import { containerOfMode } from "../../../model/container-mode.ts";
import { findContainer } from "./lookup.ts";
import { hasProcess, hostConfigOf, stateOf } from "../../../model/records.ts";

/**
 * Refuses a new container that would join a missing one, at its creation; a missing network only fails the start.
 *
 * @throws invalid
 */
export function requireDonors(
  state: State,
  { ipcMode, pidMode }: { readonly ipcMode: string; readonly pidMode: string },
): void {
  for (const donor of [containerOfMode(ipcMode), containerOfMode(pidMode)]) {
    if (donor !== undefined) {
      findDonor(state, donor);
    }
  }
}

/**
 * The containers whose namespaces a starting container joins.
 *
 * @throws as Docker: conflict or invalid for IPC, system for PID
 */
export function joinedContainers(state: State, record: ContainerRecord): JoinedContainers {
  const { ipcMode, pidMode } = hostConfigOf(record);
  const ipc = containerOfMode(ipcMode);
  const pid = containerOfMode(pidMode);
  return {
    ...(ipc === undefined ? {} : { ipc: explained("IPC", () => shareableDonor(state, ipc)) }),
    ...(pid === undefined ? {} : { pid: explained("PID", () => runningDonor(state, pid).id) }),
  };
}

function explained(namespace: "IPC" | "PID", find: () => string): string {
  try {
    return find();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    const text = `failed to join ${namespace} namespace: ${message}`;
    throw namespace === "PID" ? systemError(text, error) : new SockerlessError(kind, text, error);
  }
}

function findDonor(state: State, reference: string): ContainerRecord {
  try {
    return findContainer(state, reference);
  } catch (error) {
    throw invalid(fromUnknown(error).message, error);
  }
}

function runningDonor(state: State, reference: string): ContainerRecord {
  const donor = findDonor(state, reference);
  if (stateOf(donor).status === ContainerStatus.RESTARTING) {
    throw conflict(`Container ${reference} is restarting, wait until the container is running`);
  }
  if (!hasProcess(donor)) {
    throw conflict(`container ${reference} is not running`);
  }
  return donor;
}

function shareableDonor(state: State, reference: string): string {
  const donor = runningDonor(state, reference);
  const { ipcMode } = hostConfigOf(donor);
  // A container that has joined another shares that one's namespace; the driver checks whether it still exists.
  if (ipcMode !== "shareable" && ipcMode !== "host" && containerOfMode(ipcMode) === undefined) {
    throw invalid(
      `container ${reference}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
    );
  }
  return donor.id;
}
