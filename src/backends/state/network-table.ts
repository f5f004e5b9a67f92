/** The table of networks, with indexes besides the ID. */
import { type NetworkRecord, NetworkRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { type ForReaders, RecordTable } from "./table.ts";

/** Committed networks; with the indexes, a lookup reads no other network. */
export class NetworkTable extends RecordTable<typeof NetworkRecordSchema> {
  readonly #byName = this.indexed(({ network }) => [network?.name ?? ""]);
  readonly #byPrefix = this.indexedByPrefix();
  readonly #bySource = this.indexed(({ network }) => [network?.configFrom ?? ""]);

  constructor() {
    super("network", NetworkRecordSchema, ({ network }) => network?.id ?? "", {
      labelsOf: ({ network }) => network?.labels,
    });
  }

  /** The network that owns a name; it may still be being created or removed. */
  named(name: string): NetworkRecord | undefined {
    return this.#byName.get(name)[0];
  }

  /** Networks whose IDs begin with a prefix, which is not empty. */
  startingWith(prefix: string): readonly NetworkRecord[] {
    return this.#byPrefix.startingWith(prefix);
  }

  /** Networks with the settings of another one (`--config-from`), by its name. */
  configuredFrom(name: string): readonly NetworkRecord[] {
    return this.#bySource.get(name);
  }
}

/** The table, for readers. */
export type Networks = ForReaders<NetworkTable>;
