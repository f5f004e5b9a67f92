/** The rule for state directories and archives of strangers: where only the daemon writes, it writes files and directories. */
import type { Dirent } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import path from "node:path";

import { invalid, unlessMissing } from "../common/errors.ts";

/** Directories whose content containers, images and volumes choose (docs/formats.md): anything may be in there. */
const foreign =
  /^(volumes\/[^/]+\/[^/]+|containers\/[^/]+\/(upper|work|merged|image|init)|(damaged\/[^/]+\/)?layers\/[^/]+(\/\.?given-[^/]+)?\/diff)$/;

/**
 * Refuses a tree with a link, pipe, socket or device where the daemon has files and directories: what follows it would
 * read, change or wait for something elsewhere. Nothing is opened but directories, and nothing is followed.
 *
 * @param names of the state directory's entries; missing ones are passed over
 * @throws SockerlessError `invalid`, with the path
 */
export async function refuseForeignFiles(stateDirectory: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const entry = await lstat(path.join(stateDirectory, name)).catch(unlessMissing);
    if (entry !== undefined) {
      await refuseIn(stateDirectory, name, entry);
    }
  }
}

async function refuseIn(
  stateDirectory: string,
  name: string,
  entry: Pick<Dirent, "isFile" | "isDirectory" | "isSymbolicLink">,
): Promise<void> {
  if (entry.isFile()) {
    return;
  }
  if (!entry.isDirectory()) {
    const kind = entry.isSymbolicLink() ? "a symbolic link" : "neither a file nor a directory";
    throw invalid(
      `${name} in ${stateDirectory} is ${kind}: no daemon has written it, and nothing was changed`,
    );
  }
  if (foreign.test(name)) {
    return;
  }
  // A backend that runs removes things meanwhile.
  const entries = await readdir(path.join(stateDirectory, name), { withFileTypes: true }).catch(
    unlessMissing,
  );
  for (const each of entries ?? []) {
    await refuseIn(stateDirectory, path.posix.join(name, each.name), each);
  }
}
