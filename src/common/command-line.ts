/** Command lines of processes, which choose them: a call of prctl(2) that needs no privilege makes them gigabytes. */
import { closeSync, openSync, readSync } from "node:fs";

/** More than any command line of ours has, in bytes. */
const maxBytes = 64 * 1024;

/** The beginning of a process's command line, arguments each followed by a NUL; "" if there is no such process. */
export function commandLineOf(pid: number): string {
  const bytes = Buffer.alloc(maxBytes);
  let length = 0;
  let file: number | undefined;
  try {
    file = openSync(`/proc/${pid}/cmdline`, "r");
    let read: number;
    do {
      read = readSync(file, bytes, length, maxBytes - length, null);
      length += read;
    } while (read > 0 && length < maxBytes);
  } catch {
    return ""; // It has ended, perhaps meanwhile.
  } finally {
    if (file !== undefined) {
      closeSync(file);
    }
  }
  return bytes.toString("utf8", 0, length);
}
