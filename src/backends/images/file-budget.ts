/** Memory for files that are looked up. */
import { unavailable } from "../../common/errors.ts";

/** Characters of names that take as much memory as a file. */
const charactersPerFile = 256;

/** Files that a file with a path and a link's target of so many characters counts as. */
export function weightOf(characters: number): number {
  return 1 + Math.floor(characters / charactersPerFile);
}

/** A number of files that several indexes hold together. */
export class FileBudget {
  #free: number;

  constructor(total: number) {
    this.#free = total;
  }

  /** Counts these files as held. @throws unavailable: there is no room for them */
  take(files: number): void {
    if (files > this.#free) {
      throw unavailable("the files of too many containers are being read: try again later");
    }
    this.#free -= files;
  }

  /** Counts these files as free again. */
  give(files: number): void {
    this.#free += files;
  }
}
