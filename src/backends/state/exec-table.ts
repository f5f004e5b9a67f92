/** The table of execs, with an index by phase. */
import { type ExecPhase, type ExecRecord, ExecRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { RecordTable, type Table } from "./table.ts";
import { TableIndex } from "./table-index.ts";

/** Committed execs, ordered by their last change; with the index, creating one reads no other. */
export interface Execs extends Table<ExecRecord> {
  /** Execs of a container in a phase, the earliest to enter it first. */
  inPhase(containerId: string, phase: ExecPhase): readonly ExecRecord[];
  /** Number of execs in {@link inPhase}. */
  countInPhase(containerId: string, phase: ExecPhase): number;
}

const idOf = ({ id }: ExecRecord): string => id;
const keyOf = (containerId: string, phase: ExecPhase): string => `${phase} ${containerId}`;

/** The table of {@link Execs}. */
export class ExecTable extends RecordTable<typeof ExecRecordSchema> implements Execs {
  readonly #byPhase = new TableIndex(idOf, ({ containerId, phase }) => [keyOf(containerId, phase)]);

  constructor() {
    super("exec", ExecRecordSchema, idOf, "changed");
  }

  inPhase(containerId: string, phase: ExecPhase): readonly ExecRecord[] {
    return this.#byPhase.get(keyOf(containerId, phase));
  }

  countInPhase(containerId: string, phase: ExecPhase): number {
    return this.#byPhase.count(keyOf(containerId, phase));
  }

  protected override replaced(before: ExecRecord | undefined, after: ExecRecord | undefined): void {
    this.#byPhase.replace(before, after);
  }
}
