/** Taking away at the end of a backend in good order: the machine is left as it was found. */
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../driver/driver.ts";
import { isOfBuild } from "../model/build-label.ts";
import { configOf, isActive, isStarting } from "../model/records.ts";
import type { State } from "../state/state.ts";

/** Whether the next backend finds a process of the container, or takes up its start. */
const goesOn = (record: ContainerRecord): boolean => isActive(record) || isStarting(record);

/** Releases what is kept for the next steps of builds: a backend that starts again has none follow. */
export async function releaseSteps(state: State, driver: Driver): Promise<void> {
  const left = [...state.containers.values()].filter(
    (record) => !goesOn(record) && isOfBuild(configOf(record).labels),
  );
  await Promise.all(left.map(({ id }) => driver.workloads.release(id)));
}

/**
 * Takes away the bridges that no container is on that runs or starts: a backend that ended in good order leaves the
 * machine as it found it. The next one makes them again.
 */
export async function removeIdleBridges(state: State, driver: Driver): Promise<void> {
  const joined = new Set(
    [...state.containers.values()].filter(goesOn).flatMap((record) => Object.keys(record.endpoints)),
  );
  for (const record of state.networks.values()) {
    if (record.network?.driver === "bridge" && !joined.has(record.network.name)) {
      await driver.networks.remove(record);
    }
  }
}
