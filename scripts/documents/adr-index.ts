/** `docs/adr/README.md`: the decisions by number, with the titles that their files begin with. */
import { globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { root } from "../program.ts";

export const file = "docs/adr/README.md";

/** @throws Error where a decision's file does not begin with `# NUMBER. TITLE`, or its number is not its file's */
export async function render(): Promise<string> {
  const rows = [];
  for (const path of globSync("docs/adr/[0-9]*.md", { cwd: root }).sort()) {
    const [heading = ""] = (await readFile(join(root, path), "utf8")).split("\n", 1);
    const [, number, title] = /^# (\d+)\. (.+)$/.exec(heading) ?? [];
    const name = basename(path);
    if (title === undefined || Number(number) !== Number(name.slice(0, 4))) {
      throw new Error(`${path} begins with "${heading}", not with its number and title`);
    }
    rows.push(`| [${number}](${name}) | ${title} |`);
  }
  return [
    "# Decisions",
    "",
    "Each is one screen: what made it necessary, what was decided and measured, what follows, and what was rejected. 1 to 9",
    "are those that everything else stands on. A decision is changed by another one that says what was measured.",
    "",
    "<!-- Made by scripts/documents/adr-index.ts from the headings: npm run generate -->",
    "",
    "| | |",
    "|---|---|",
    ...rows,
    "",
  ].join("\n");
}
