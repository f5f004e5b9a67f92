/** Links of the documents to files and headings of the checkout that are not there. Web addresses are not asked. */
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { join, posix } from "node:path";

import GithubSlugger from "github-slugger";

import { root } from "./program.ts";

const documents = ["*.md", "docs/**/*.md", "terraform/**/*.md", "test/**/README.md", "agent/**/*.md"];

/** Finds the dead links of all documents, a line each. */
export function findDeadLinks(): string[] {
  return globSync(documents, { cwd: root, exclude: ["**/node_modules/**"] }).flatMap((document) =>
    deadLinksOf(document, (path) => {
      const file = join(root, path);
      return existsSync(file) ? (statSync(file).isFile() ? readFileSync(file, "utf8") : "") : undefined;
    }),
  );
}

/**
 * Finds the dead links of one document.
 *
 * @param read text of a file by its path from the checkout; empty for a directory, undefined where nothing is there
 */
export function deadLinksOf(document: string, read: (path: string) => string | undefined): string[] {
  const text = withoutBlocks(read(document) ?? "").replaceAll(/(`+)(?!`)[^\n]*?[^`\n]\1(?!`)/g, "code");
  const targets = [
    ...text.matchAll(/\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)(?:\s+"[^"]*")?\)/g),
    ...text.matchAll(/^\[[^\]]+\]:\s*(\S+)/gm),
    ...text.matchAll(/\b(?:src|href)="([^"]+)"/g),
  ].map(([, target = ""]) => target);
  return targets
    .filter((target) => !/^[a-z][a-z+.-]*:/i.test(target))
    .flatMap((target) => {
      const [path = "", anchor] = target.split("#", 2);
      const file = path === "" ? document : posix.join(posix.dirname(document), decodeURI(path));
      const found = read(file);
      if (found === undefined) {
        return [`${document}: ${target}: no such file`];
      }
      const isMissing =
        anchor !== undefined && file.endsWith(".md") && !anchorsOf(found).has(anchor.toLowerCase());
      return isMissing ? [`${document}: ${target}: no such heading`] : [];
    });
}

/** Anchors that GitHub gives to a document's headings, and those that it sets itself. */
function anchorsOf(text: string): Set<string> {
  const slugger = new GithubSlugger();
  const headings = withoutBlocks(text).matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm);
  const set = text.matchAll(/\b(?:id|name)="([^"]+)"/g);
  return new Set([
    ...[...headings].map(([, heading = ""]) => slugger.slug(heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1"))),
    ...[...set].map(([, name = ""]) => name),
  ]);
}

/** A document without its blocks of code. */
function withoutBlocks(text: string): string {
  return text.replaceAll(/^( *)(`{3,}|~{3,})[^\n]*\n[\s\S]*?^\1\2[^\n]*$/gm, "");
}
