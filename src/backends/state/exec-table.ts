/** The table of execs, with an index by phase and the weight of each container's. */
import { ExecPhase, type ExecRecord, ExecRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { RecordTable, type Table } from "./table.ts";
import { TableIndex } from "./table-index.ts";
import { weightOf } from "./weights.ts";

/** Committed execs, ordered by their last change; with the index, creating one reads no other. */
export interface Execs extends Table<ExecRecord> {
  /** Execs of a container in a phase, the earliest to enter it first. */
  inPhase(containerId: string, phase: ExecPhase): readonly ExecRecord[];
  /** Number of execs in {@link inPhase}. */
  countInPhase(containerId: string, phase: ExecPhase): number;
  /** Bytes of a container's execs that start or run, as {@link execWeight} counts them. */
  openWeight(containerId: string): number;
  /** Bytes of a container's other execs: ended ones, and those never started. */
  idleWeight(containerId: string): number;
  /** The container with the most of {@link idleWeight}, and the bytes of all containers together. */
  idleWeights(): { readonly heaviest: string; readonly total: number };
}

const idOf = ({ id }: ExecRecord): string => id;
const keyOf = (containerId: string, phase: ExecPhase): string => `${phase} ${containerId}`;

/** Bytes of an exec's command and its settings, and some for each of its entries. */
export function execWeight({ config }: ExecRecord): number {
  return weightOf(config);
}

function isOpen({ phase }: ExecRecord): boolean {
  return phase === ExecPhase.STARTING || phase === ExecPhase.RUNNING;
}

/** The table of {@link Execs}. */
export class ExecTable extends RecordTable<typeof ExecRecordSchema> implements Execs {
  readonly #byPhase = new TableIndex(idOf, ({ containerId, phase }) => [keyOf(containerId, phase)]);
  readonly #open = new Map<string, number>();
  readonly #idle = new Map<string, number>();

  constructor() {
    super("exec", ExecRecordSchema, idOf, { order: "changed" });
  }

  inPhase(containerId: string, phase: ExecPhase): readonly ExecRecord[] {
    return this.#byPhase.get(keyOf(containerId, phase));
  }

  countInPhase(containerId: string, phase: ExecPhase): number {
    return this.#byPhase.count(keyOf(containerId, phase));
  }

  openWeight(containerId: string): number {
    return this.#open.get(containerId) ?? 0;
  }

  idleWeight(containerId: string): number {
    return this.#idle.get(containerId) ?? 0;
  }

  idleWeights(): { readonly heaviest: string; readonly total: number } {
    let [heaviest, most, total] = ["", 0, 0];
    for (const [containerId, weight] of this.#idle) {
      total += weight;
      [heaviest, most] = weight > most ? [containerId, weight] : [heaviest, most];
    }
    return { heaviest, total };
  }

  protected override replaced(before: ExecRecord | undefined, after: ExecRecord | undefined): void {
    this.#byPhase.replace(before, after);
    this.#weigh(before, -1);
    this.#weigh(after, 1);
  }

  #weigh(record: ExecRecord | undefined, sign: 1 | -1): void {
    if (record === undefined) {
      return;
    }
    const weights = isOpen(record) ? this.#open : this.#idle;
    const weight = (weights.get(record.containerId) ?? 0) + sign * execWeight(record);
    if (weight === 0) {
      weights.delete(record.containerId);
    } else {
      weights.set(record.containerId, weight);
    }
  }
}
