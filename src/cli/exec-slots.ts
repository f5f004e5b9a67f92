/**
 * Execs whose streams a process serves, in a file without a name that it and the supervisor have open: an exec's ID stands
 * in a slot from the beginning of its stream to the end, which takes no message and wakes nobody. The supervisor looks once
 * the process has died.
 *
 * A slot is written when it is empty, and emptied whole. So what a death leaves half done is no ID: of a stream whose client
 * has not been answered yet, or has been told everything.
 */
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";

import { scratchDirectories } from "../common/scratch-directories.ts";

/** Length of a slot in bytes, and of an exec's ID. */
export const slotBytes = 64;

/** Execs that stream at the same time and are known to; of those cut as many are remembered, as clients ask at once. */
export const maxExecs = 10_000;

/** Told of a process whose execs are not known. */
export const unknownCuts = "execs that are cut off will not be known as cut";

/** Room that a file takes at once, so that a disk which is full later takes the first slots away from nobody. Bytes. */
const reservedBytes = 4096;

const execId = /^[0-9a-f]{64}$/;

const emptySlot = Buffer.alloc(slotBytes);

/** The slots as the process has them that serves the streams. */
export class ExecSlots {
  readonly #descriptor: number;
  readonly #onFailure: (error: unknown) => void;
  readonly #free: number[] = [];
  #used = 0;
  #hasFailed = false;

  /**
   * @param descriptor of a file that no process before has used, by {@link CutExecs}
   * @param onFailure told once if an exec cannot be written; its stream goes on unknown
   */
  constructor(descriptor: number, onFailure: (error: unknown) => void) {
    this.#descriptor = descriptor;
    this.#onFailure = onFailure;
  }

  /**
   * The stream of an exec begins; disposing says that it has ended.
   *
   * @returns undefined: all slots are taken
   */
  streaming(id: string): Disposable | undefined {
    const slot = this.#free.pop() ?? (this.#used < maxExecs ? this.#used++ : undefined);
    if (slot === undefined) {
      return undefined;
    }
    this.#write(slot, Buffer.from(id, "latin1"));
    return {
      [Symbol.dispose]: () => {
        this.#write(slot, emptySlot);
        this.#free.push(slot);
      },
    };
  }

  #write(slot: number, bytes: Buffer): void {
    try {
      writeSync(this.#descriptor, bytes, 0, slotBytes, slot * slotBytes);
    } catch (error) {
      if (!this.#hasFailed) {
        this.#hasFailed = true;
        this.#onFailure(error);
      }
    }
  }
}

/** Execs whose streams processes did not live to end, the supervisor's side: one process comes after the other. */
export class CutExecs {
  readonly #onFailure: (error: unknown) => void;
  readonly #directories: readonly string[];
  #descriptor: number | undefined;
  #ids: readonly string[] = [];

  /**
   * @param onFailure told of each process whose execs will not be known as cut
   * @param directories for the file, in the order to try
   */
  constructor(onFailure: (error: unknown) => void, directories: readonly string[] = scratchDirectories()) {
    this.#onFailure = onFailure;
    this.#directories = directories;
  }

  /** Their IDs, those of earlier processes first. */
  get ids(): readonly string[] {
    return this.#ids;
  }

  /** True if the process that was started last has slots. */
  get hasSlots(): boolean {
    return this.#descriptor !== undefined;
  }

  /**
   * Reads the slots of the process that has died, if there was one, and makes those of the next.
   *
   * @returns the descriptor for it; undefined: no directory takes a file, and what that process streams is not known
   */
  renewSlots(): number | undefined {
    const ended = this.#descriptor;
    this.#descriptor = undefined;
    try {
      if (ended !== undefined) {
        this.#ids = [...this.#ids, ...takeExecs(ended)].slice(-maxExecs);
      }
      this.#descriptor = this.#makeSlots();
    } catch (error) {
      this.#onFailure(error);
    }
    return this.#descriptor;
  }

  #makeSlots(): number {
    let failure: unknown;
    for (const directory of this.#directories) {
      try {
        return makeSlotsIn(directory);
      } catch (error) {
        failure = error; // It is missing, full, or not to be written.
      }
    }
    throw failure;
  }
}

/** The execs in the slots of a process that has died, whose file is closed. */
function takeExecs(descriptor: number): string[] {
  try {
    const bytes = Buffer.alloc(fstatSync(descriptor).size);
    readSync(descriptor, bytes, 0, bytes.length, 0);
    const slots = Array.from({ length: bytes.length / slotBytes }, (_, slot) =>
      bytes.toString("latin1", slot * slotBytes, (slot + 1) * slotBytes),
    );
    return slots.filter((id) => execId.test(id));
  } finally {
    closeSync(descriptor);
  }
}

/** Makes a file of empty slots, which is gone when the last process closes it. */
function makeSlotsIn(directory: string): number {
  const folder = mkdtempSync(join(directory, "sockerless-execs-"));
  try {
    const descriptor = openSync(join(folder, "slots"), "wx+", 0o600);
    try {
      writeSync(descriptor, Buffer.alloc(reservedBytes));
      return descriptor;
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
