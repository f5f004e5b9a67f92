/** The table of networks, with indexes besides the ID. */
import { type NetworkRecord, NetworkRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { RecordTable, type Table } from "./table.ts";
import { TableIndex } from "./table-index.ts";

/** Committed networks; with the index, a lookup by name reads no other network. */
export interface Networks extends Table<NetworkRecord> {
  /** The network that owns a name; it may still be being created or removed. */
  named(name: string): NetworkRecord | undefined;
  /** Networks with the settings of another one (`--config-from`), by its name. */
  configuredFrom(name: string): readonly NetworkRecord[];
}

const idOf = ({ network }: NetworkRecord): string => network?.id ?? "";

/** The table of {@link Networks}. */
export class NetworkTable extends RecordTable<typeof NetworkRecordSchema> implements Networks {
  readonly #byName = new TableIndex(idOf, ({ network }) => [network?.name ?? ""]);
  readonly #bySource = new TableIndex(idOf, ({ network }) => [network?.configFrom ?? ""]);

  constructor() {
    super("network", NetworkRecordSchema, idOf, { labelsOf: ({ network }) => network?.labels });
  }

  named(name: string): NetworkRecord | undefined {
    return this.#byName.get(name)[0];
  }

  configuredFrom(name: string): readonly NetworkRecord[] {
    return this.#bySource.get(name);
  }

  protected override replaced(before: NetworkRecord | undefined, after: NetworkRecord | undefined): void {
    for (const index of [this.#byName, this.#bySource]) {
      index.replace(before, after);
    }
  }
}
