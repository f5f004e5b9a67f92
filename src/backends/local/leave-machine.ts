/** Cleanup at a backend's clean end: leaves the machine as it was found. */
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../driver/driver.ts";
import { isOfBuild } from "../model/build-label.ts";
import { configOf, isActive, isStarting } from "../model/records.ts";
import type { State } from "../state/state.ts";

/** Whether the next backend will find a process of the container, or continue its start. */
const continues = (record: ContainerRecord): boolean => isActive(record) || isStarting(record);

/** Releases what is kept for the next steps of builds: after a restart, no step follows. */
export async function releaseSteps(state: State, driver: Driver): Promise<void> {
  const left = [...state.containers.values()].filter(
    (record) => !continues(record) && isOfBuild(configOf(record).labels),
  );
  await Promise.all(left.map(({ id }) => driver.workloads.release(id)));
}

/**
 * Removes the bridges without a running or starting container, so that a backend's clean end leaves the machine as it
 * was found. The next backend creates them again.
 */
export async function removeIdleBridges(state: State, driver: Driver): Promise<void> {
  const joined = new Set(
    [...state.containers.values()].filter(continues).flatMap((record) => Object.keys(record.endpoints)),
  );
  for (const record of state.networks.values()) {
    if (record.network?.driver === "bridge" && !joined.has(record.network.name)) {
      await driver.networks.remove(record);
    }
  }
}
