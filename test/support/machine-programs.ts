/** Programs of this machine in images, with the libraries that they are linked with. */
import { glob, readFile, stat } from "node:fs/promises";

import { runCommand } from "./command.ts";
import { type TarEntry, tarOf } from "./tar.ts";

/**
 * A layer that has programs of this machine at their own paths.
 *
 * @param paths of programs and of what they read, as patterns; links stand for what they lead to
 */
export async function layerOf(...paths: readonly string[]): Promise<Buffer> {
  const names = new Set<string>();
  for await (const name of glob([...paths])) {
    if ((await stat(name)).isFile()) {
      names.add(name);
    }
  }
  for (const library of await librariesOf([...names])) {
    names.add(library);
  }
  const entries = [...names].toSorted().map(
    async (name): Promise<TarEntry> => ({
      name: name.slice(1),
      mode: (await stat(name)).mode & 0o777,
      content: await readFile(name),
    }),
  );
  return await tarOf(await Promise.all(entries));
}

/** Shared libraries of those files that have any, and the loader. */
async function librariesOf(files: readonly string[]): Promise<readonly string[]> {
  const { text } = await runCommand("ldd", files); // It fails where a file is no program.
  return [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, library = ""]) => library);
}
