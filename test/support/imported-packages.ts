import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";

/** Packages that a module imports, by itself and through our own; a compiled one is read from its source if that runs. */
export async function packagesOf(module: URL, seen = new Set<string>()): Promise<Set<string>> {
  seen.add(module.href);
  const source = await readFile(
    existsSync(module) ? module : new URL(module.href.replace(/\.js$/, ".ts")),
    "utf8",
  );
  const packages = new Set<string>();
  for (const [, name = ""] of source.matchAll(
    /^(?:import|(?:import|export) (?!type\b)[^;()="]*from) "([^"]+)";$/gm,
  )) {
    const imported = new URL(name, module);
    if (!name.startsWith(".")) {
      packages.add(name);
    } else if (!seen.has(imported.href)) {
      for (const each of await packagesOf(imported, seen)) {
        packages.add(each);
      }
    }
  }
  return new Set([...packages].filter((name) => !name.startsWith("node:")));
}
