/**
 * The execs whose streams a process serves, in an unnamed file that it shares with the supervisor. A slot holds an
 * exec's ID while its stream lasts: this costs no message and wakes no process. The supervisor reads the file after the
 * process has died.
 *
 * A slot is only written when empty, and always cleared whole. So a slot that a crash leaves half written is no valid
 * ID; its client has either received no answer yet, or everything.
 */
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";

import { isFullId } from "../common/ids.ts";
import { scratchDirectories } from "../common/scratch-directories.ts";

/** Bytes per slot: the length of an exec ID. */
export const slotBytes = 64;

/** The most execs tracked at a time, and the most cut ones remembered: clients ask about those at once. */
export const maxExecs = 10_000;

/** Logged when the execs of a process cannot be tracked. */
export const unknownCuts = "execs that are cut off will not be known as cut";

/** Bytes allocated when the file is made, so that the first slots work even if the disk fills up later. */
const reservedBytes = 4096;

const emptySlot = Buffer.alloc(slotBytes);

/** The slots, as seen by the process that serves the streams. */
export class ExecSlots {
  readonly #descriptor: number;
  readonly #onFailure: (error: unknown) => void;
  readonly #free: number[] = [];
  #used = 0;
  #hasFailed = false;

  /**
   * @param descriptor of an unused slot file, from {@link CutExecs}
   * @param onFailure called once if an ID cannot be written; the exec's stream continues untracked
   */
  constructor(descriptor: number, onFailure: (error: unknown) => void) {
    this.#descriptor = descriptor;
    this.#onFailure = onFailure;
  }

  /**
   * Marks an exec's stream as begun; disposing marks its end.
   *
   * @returns undefined if all slots are taken
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

/**
 * Execs whose streams were cut by the death of their process, as seen by the supervisor, which runs one process after
 * another.
 */
export class CutExecs {
  readonly #onFailure: (error: unknown) => void;
  readonly #directories: readonly string[];
  #descriptor: number | undefined;
  #ids: readonly string[] = [];

  /**
   * @param onFailure called for each process whose execs cannot be tracked
   * @param directories where to create the file, in order of preference
   */
  constructor(onFailure: (error: unknown) => void, directories: readonly string[] = scratchDirectories()) {
    this.#onFailure = onFailure;
    this.#directories = directories;
  }

  /** Their IDs, oldest process first. */
  get ids(): readonly string[] {
    return this.#ids;
  }

  /** True if the latest process has slots. */
  get hasSlots(): boolean {
    return this.#descriptor !== undefined;
  }

  /**
   * Reads the slots of the previous process, if any, and makes the slots of the next.
   *
   * @returns the descriptor for the next process; undefined if no directory takes the file, so that its execs go
   *   untracked
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
        failure = error; // Missing, full or not writable.
      }
    }
    throw failure;
  }
}

/** Reads the execs in the slots of a dead process, and closes the file. */
function takeExecs(descriptor: number): string[] {
  try {
    const bytes = Buffer.alloc(fstatSync(descriptor).size);
    readSync(descriptor, bytes, 0, bytes.length, 0);
    const slots = Array.from({ length: bytes.length / slotBytes }, (_, slot) =>
      bytes.toString("latin1", slot * slotBytes, (slot + 1) * slotBytes),
    );
    return slots.filter(isFullId);
  } finally {
    closeSync(descriptor);
  }
}

/** Makes an unlinked file of empty slots. */
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
