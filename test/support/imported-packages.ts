import { readFile } from "node:fs/promises";

/** Packages that a compiled module imports, by itself and through our own. */
export async function packagesOf(module: URL, seen = new Set<string>()): Promise<Set<string>> {
  seen.add(module.href);
  const source = await readFile(module, "utf8");
  const packages = new Set<string>();
  for (const [, name = ""] of source.matchAll(/^(?:import|export)\b[^;()="]*"([^"]+)";$/gm)) {
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
