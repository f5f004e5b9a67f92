import { invalid, notImplemented } from "../../common/errors.ts";
import type { VolumeStore } from "../common/driver.ts";
import { orHostError } from "./host-client.ts";
import type { HostProcess } from "./host-process.ts";

/** What Docker's driver `local` knows. */
const dockerOptions: ReadonlySet<string> = new Set(["type", "o", "device", "size"]);

/** A volume is a directory of this machine. */
export function localVolumes(host: HostProcess): VolumeStore {
  return {
    async create(record) {
      const options = Object.keys(record.options);
      const unknown = options.find((option) => !dockerOptions.has(option));
      if (unknown !== undefined) {
        throw invalid(`create ${record.name}: invalid option: ${JSON.stringify(unknown)}`);
      }
      if (options.length > 0) {
        throw notImplemented(`the local backend does not support volume options (${options.join(", ")})`);
      }
      const { path } = await orHostError(
        host.persist((client) => client.createVolume({ name: record.name })),
      );
      return { reference: path, mountpoint: path };
    },
    async remove(record) {
      await orHostError(host.persist((client) => client.removeVolume({ name: record.name })));
    },
  };
}
