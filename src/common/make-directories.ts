import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";

import { errnoOf, fromFileError, messageOf } from "./errors.ts";

/**
 * Makes a directory and its parents, like `mkdir -p`. Node's `recursive` option never returns if an existing directory
 * answers ENOENT, as those of procfs do.
 *
 * @param path absolute
 * @param mode of each new directory, before the umask
 * @throws SockerlessError of the kind that the errno means, with the path and Node's text
 */
export async function makeDirectories(path: string, mode = 0o777): Promise<void> {
  try {
    await makeEach(path, mode);
  } catch (error) {
    throw fromFileError(error, `cannot make directory ${path}: ${messageOf(error)}`);
  }
}

async function makeEach(path: string, mode: number): Promise<void> {
  try {
    await makeOne(path, mode);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") {
      throw error;
    }
    await makeEach(dirname(path), mode);
    await makeOne(path, mode);
  }
}

async function makeOne(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST" || !(await stat(path)).isDirectory()) {
      throw error;
    }
  }
}
