/** The backend's side of the generation file: tells frontends that the state has changed, before it tells anybody anything new. */
import { randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, ftruncateSync, openSync, unlinkSync, writeSync } from "node:fs";
import { dirname } from "node:path";

import { errnoOf } from "../../common/errors.ts";
import {
  generationBytes,
  generationOffsets,
  generationPathOf,
  noGeneration,
} from "../../common/generation-file.ts";
import { makeDirectories } from "../../common/make-directories.ts";

/** The generation of a state. */
export interface Generation {
  /** The number that the file holds; 0: answers may not be held. */
  readonly value: bigint;
  /** The same, and another only after changes of more than the progress of execs. */
  readonly allButExecs: bigint;
  /**
   * The state has changed. Synchronous: called in the step that changes it, so that no answer goes out in between.
   *
   * @param isOfExecs true where execs have only come to be, begun or ended
   */
  advance(isOfExecs?: boolean): void;
  /** Takes the file away, once: nothing that was held counts any more. */
  close(): void;
  /** Leaves the file, once: it is that of another backend, which serves the address and tells its number at its next change. */
  leave(): void;
}

/** The generation of a state that no frontend can look at. */
export const untoldGeneration: Generation = {
  value: noGeneration,
  allButExecs: noGeneration,
  advance: () => {},
  close: () => {},
  leave: () => {},
};

/**
 * Opens the generation of a backend at an address, with a number that no backend before it has told. Where the file cannot
 * be made it is told to nobody.
 *
 * @param lost called when the file can neither be written nor emptied any more: who looks at it must be told otherwise
 */
export async function openGeneration(address: string, lost: () => void = () => {}): Promise<Generation> {
  const path = generationPathOf(address);
  if (path === undefined) {
    return untoldGeneration;
  }
  try {
    await makeDirectories(dirname(path));
    const generation = new FileGeneration(path, lost);
    generation.advance();
    return generation;
  } catch {
    return untoldGeneration; // A disk without room, or one that is read-only.
  }
}

class FileGeneration implements Generation {
  readonly #path: string;
  readonly #lost: () => void;
  readonly #descriptor: number;
  readonly #bytes = Buffer.alloc(2 * generationBytes);
  #isClosed = false;
  #value = randomBytes(generationBytes).readBigUInt64LE() | 1n;
  #allButExecs = this.#value;

  constructor(path: string, lost: () => void) {
    this.#path = path;
    this.#lost = lost;
    this.#descriptor = openOwn(path);
  }

  get value(): bigint {
    return this.#value;
  }

  get allButExecs(): bigint {
    return this.#allButExecs;
  }

  advance(isOfExecs = false): void {
    if (this.#value !== noGeneration) {
      const next = BigInt.asUintN(64, this.#value + 1n) || 1n;
      this.#tell(next, isOfExecs ? this.#allButExecs : next);
    }
  }

  close(): void {
    if (this.#isClosed) {
      return;
    }
    this.#isClosed = true;
    this.#tell(noGeneration, noGeneration);
    unlinkIfThere(this.#path);
    closeSync(this.#descriptor);
  }

  leave(): void {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#forget();
      closeSync(this.#descriptor);
    }
  }

  #tell(value: bigint, allButExecs: bigint): void {
    this.#value = value;
    this.#allButExecs = allButExecs;
    this.#bytes.writeBigUInt64LE(value, generationOffsets.all);
    this.#bytes.writeBigUInt64LE(allButExecs, generationOffsets.allButExecs);
    try {
      writeSync(this.#descriptor, this.#bytes, 0, this.#bytes.length, 0);
    } catch {
      this.#forget();
      this.#empty();
    }
  }

  #forget(): void {
    this.#value = noGeneration;
    this.#allButExecs = noGeneration;
  }

  /** An empty file holds no generation either. */
  #empty(): void {
    try {
      ftruncateSync(this.#descriptor);
    } catch {
      this.#lost();
    }
  }
}

/**
 * Opens the file that a backend which was killed has left, since frontends may still look at it, or makes one. A file that
 * another user could write is replaced.
 */
function openOwn(path: string): number {
  const create = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return openSync(path, create, 0o600);
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") {
      throw error;
    }
  }
  const left = openLeft(path);
  if (left !== undefined) {
    return left;
  }
  unlinkIfThere(path);
  return openSync(path, create, 0o600);
}

/** The file of the backend before; undefined: what is there is none. */
function openLeft(path: string): number | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  const { mode, uid, nlink } = fstatSync(descriptor);
  if (mode === (constants.S_IFREG | 0o600) && uid === process.geteuid?.() && nlink === 1) {
    return descriptor;
  }
  closeSync(descriptor);
  return undefined;
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") {
      throw error;
    }
  }
}
