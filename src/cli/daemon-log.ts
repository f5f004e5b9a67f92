import { fstatSync, openSync, readSync } from "node:fs";
import type { Writable } from "node:stream";

import { fromFileError, messageOf } from "../common/errors.ts";

/** Bytes copied per read. */
const chunkBytes = 64 * 1024;

/** The log file of a daemon in the background. */
export class DaemonLog {
  readonly path: string;
  readonly descriptor: number;
  /** Length of the file when it was opened. */
  readonly #begin: number;

  private constructor(path: string, descriptor: number) {
    this.path = path;
    this.descriptor = descriptor;
    this.#begin = fstatSync(descriptor).size;
  }

  /**
   * Opens the file, or creates it with access for its owner only. Every write appends: after the file was truncated,
   * logging continues at its new end.
   *
   * @throws SockerlessError of the kind that the errno means
   */
  static open(path: string): DaemonLog {
    try {
      return new DaemonLog(path, openSync(path, "a+", 0o600));
    } catch (error) {
      throw fromFileError(error, `cannot open log file ${path}: ${messageOf(error)}`);
    }
  }

  /** Copies what was appended since the file was opened; if it was truncated meanwhile, all of it. */
  copyNewTo(target: Writable): void {
    const { size } = fstatSync(this.descriptor);
    for (let at = size < this.#begin ? 0 : this.#begin; at < size; ) {
      const chunk = Buffer.alloc(Math.min(chunkBytes, size - at));
      const bytes = readSync(this.descriptor, chunk, 0, chunk.length, at);
      if (bytes === 0) {
        return;
      }
      target.write(chunk.subarray(0, bytes));
      at += bytes;
    }
  }
}
