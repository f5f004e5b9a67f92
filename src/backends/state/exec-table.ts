/** The execs, with an index by what becomes of them. */
import { type ExecPhase, type ExecRecord, ExecRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { RecordTable, type Table } from "./table.ts";
import { TableIndex } from "./table-index.ts";

/** Execs as committed last, by when they changed last; with the index the creation of one looks at no other. */
export interface Execs extends Table<ExecRecord> {
  /** Execs of a container in a phase, those first that have come into it first. */
  inPhase(containerId: string, phase: ExecPhase): readonly ExecRecord[];
  /** Number of {@link inPhase}. */
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
