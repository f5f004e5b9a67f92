import type { Driver } from "../common/driver.ts";
import { isActive } from "../common/model/records.ts";
import type { State } from "../common/state/state.ts";

/**
 * Takes away the bridges that no running container is on: a backend that ended in good order leaves the machine as it
 * found it. The next one makes them again.
 */
export async function removeIdleBridges(state: State, driver: Driver): Promise<void> {
  const joined = new Set(
    [...state.containers.values()].filter(isActive).flatMap((record) => Object.keys(record.endpoints)),
  );
  for (const record of state.networks.values()) {
    if (record.network?.driver === "bridge" && !joined.has(record.network.name)) {
      await driver.networks.remove(record);
    }
  }
}
