/** The table of execs, with indexes by container and phase, and the weight of each container's. */
import { ExecPhase, type ExecRecord, ExecRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { type ForReaders, RecordTable } from "./table.ts";
import { weightOf } from "./weights.ts";

const keyOf = (containerId: string, phase: ExecPhase): string => `${phase} ${containerId}`;

const openPhases: readonly ExecPhase[] = [ExecPhase.STARTING, ExecPhase.RUNNING];

/** Committed execs, ordered by their last change; with the indexes, creating one reads no other. */
export class ExecTable extends RecordTable<typeof ExecRecordSchema> {
  readonly #index = this.indexed(({ containerId, phase }) => [containerId, keyOf(containerId, phase)]);
  readonly #open = new Map<string, number>();
  readonly #idle = new Map<string, number>();
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor() {
    super("exec", ExecRecordSchema, ({ id }) => id, { order: "changed" });
  }

  /** Execs of a container, the earliest to be made first. */
  of(containerId: string): readonly ExecRecord[] {
    return this.#index.get(containerId);
  }

  /** Execs of a container that start or run. */
  open(containerId: string): readonly ExecRecord[] {
    return openPhases.flatMap((phase) => this.inPhase(containerId, phase));
  }

  /** Execs of a container in a phase, the earliest to enter it first. */
  inPhase(containerId: string, phase: ExecPhase): readonly ExecRecord[] {
    return this.#index.get(keyOf(containerId, phase));
  }

  /** Number of execs in {@link inPhase}. */
  countInPhase(containerId: string, phase: ExecPhase): number {
    return this.#index.count(keyOf(containerId, phase));
  }

  /** Bytes of a container's execs that start or run, as {@link weightOf} counts them. */
  openWeight(containerId: string): number {
    return this.#open.get(containerId) ?? 0;
  }

  /** Bytes of a container's other execs: ended ones, and those never started. */
  idleWeight(containerId: string): number {
    return this.#idle.get(containerId) ?? 0;
  }

  /** The container with the most of {@link idleWeight}, and the bytes of all containers together. */
  idleWeights(): { readonly heaviest: string; readonly total: number } {
    let [heaviest, most, total] = ["", 0, 0];
    for (const [containerId, weight] of this.#idle) {
      total += weight;
      [heaviest, most] = weight > most ? [containerId, weight] : [heaviest, most];
    }
    return { heaviest, total };
  }

  /** Calls a listener at every change of an exec, and its removal. Returns a function that removes the listener. */
  onChange(execId: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(execId) ?? new Set();
    this.#listeners.set(execId, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) {
        this.#listeners.delete(execId);
      }
    };
  }

  protected override replaced(before: ExecRecord | undefined, after: ExecRecord | undefined): void {
    super.replaced(before, after);
    this.#weigh(before, -1);
    this.#weigh(after, 1);
    for (const listener of this.#listeners.get((after ?? before)?.id ?? "") ?? []) {
      listener();
    }
  }

  #weigh(record: ExecRecord | undefined, sign: 1 | -1): void {
    if (record === undefined) {
      return;
    }
    const weights = openPhases.includes(record.phase) ? this.#open : this.#idle;
    const weight = (weights.get(record.containerId) ?? 0) + sign * weightOf(record);
    if (weight === 0) {
      weights.delete(record.containerId);
    } else {
      weights.set(record.containerId, weight);
    }
  }
}

/** The table, for readers. */
export type Execs = ForReaders<ExecTable>;
