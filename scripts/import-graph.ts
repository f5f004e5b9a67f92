/** The graph of imports: which source names which. */
import { globSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";

import { root } from "./program.ts";

/** Imported files by importing file, as paths from the checkout with `/`. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** Every specifier in a source: static and dynamic imports, re-exports, types, and files that become workers. */
export function importsOf(source: string): string[] {
  const patterns = [
    /^\s*(?:import|export)\b[^;"']*?\bfrom\s*["']([^"']+)["']/gm,
    /^\s*import\s*["']([^"']+)["']/gm,
    /\bimport\(\s*["']([^"']+)["']/g,
    /\bnew URL\(\s*["'](\.[^"']+\.[jt]s)["'],\s*import\.meta\.url/g,
  ];
  return patterns.flatMap((pattern) => [...source.matchAll(pattern)].map((match) => match[1] ?? ""));
}

/** Reads the graph of the files that fit the patterns; programs and workers are named as they are compiled, `x.js`. */
export function readImportGraph(patterns: readonly string[]): ImportGraph {
  const files = globSync(patterns, { cwd: root }).toSorted((one, other) => one.localeCompare(other));
  return new Map(
    files.map((file) => [
      file,
      importsOf(readFileSync(join(root, file), "utf8"))
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) => posix.join(posix.dirname(file), specifier)),
    ]),
  );
}

/** Finds all files that import or start one of these, directly or by way of others, and these themselves. */
export function filesReachedFrom(changed: Iterable<string>, graph: ImportGraph): Set<string> {
  const importers = new Map<string, string[]>();
  for (const [file, imports] of graph) {
    for (const imported of imports.map((path) => path.replace(/\.js$/, ".ts"))) {
      importers.set(imported, [...(importers.get(imported) ?? []), file]);
    }
  }
  const reached = new Set(changed);
  for (const file of reached) {
    for (const importer of importers.get(file) ?? []) {
      reached.add(importer);
    }
  }
  return reached;
}
