/**
 * The documents that are made of code. Each module of `scripts/documents/` exports `file` (path from the checkout) and
 * `render()` (its content).
 */
import { globSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import type { Outcome } from "./program.ts";
import { root } from "./program.ts";

interface DocumentModule {
  readonly file: string;
  readonly render: () => string | Promise<string>;
}

/** Writes every document that is not current. */
export async function writeDocuments(): Promise<void> {
  for (const { file, content } of await staleDocuments()) {
    await mkdir(dirname(join(root, file)), { recursive: true });
    await writeFile(join(root, file), content);
  }
}

/** Names the documents that are not current. */
export async function compareDocuments(): Promise<Outcome> {
  const stale = await staleDocuments();
  const lines = stale.map(({ file }) => `${file} is not current: npm run generate\n`);
  return { code: stale.length === 0 ? 0 : 1, output: lines.join("") };
}

async function staleDocuments(): Promise<{ file: string; content: string }[]> {
  const stale = [];
  for (const path of globSync("scripts/documents/*.ts", { cwd: root }).sort()) {
    const { file, render } = (await import(join(root, path))) as DocumentModule;
    const content = await render();
    const present = await readFile(join(root, file), "utf8").catch(() => undefined);
    if (present !== content) {
      stale.push({ file, content });
    }
  }
  return stale;
}
