import type { DiskMeter } from "../driver/machine.ts";
import { type HostClient, orHostError } from "./host-client.ts";

/** Measures disk usage through the host process. */
export function localDisk(host: HostClient["client"]): DiskMeter {
  return {
    kind: "meter",
    async measure({ containers: containerIds, volumes: volumeNames }, signal) {
      const { containers, volumes } = await orHostError(
        host.measureDisk({ containerIds: [...containerIds], volumeNames: [...volumeNames] }, { signal }),
      );
      return {
        containers: new Map(Object.entries(containers)),
        volumes: new Map(Object.entries(volumes)),
      };
    },
  };
}
