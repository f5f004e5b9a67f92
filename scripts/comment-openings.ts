/**
 * The first words of comments. A comment that opens with a relative clause ("Whose output …") is read three times: it
 * names its subject, or begins with a verb.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { root } from "./program.ts";

const opening = /^(?:Of|What|Whatever|Where|Wherever|Which|Whichever|Who|Whoever|Whom|Whose)\b/;
const slashes = /\.(?:ts|mjs|go|proto)$/;
const hashes = /\.(?:sh|py|tf|ya?ml)$/;
const skipped = /^(?:src|proto)\/gen\/|\/fixtures\//;

/** Line numbers, from 1, of the comments of a source text whose first word is refused. */
export function refusedOpenings(file: string, source: string): number[] {
  const whole = slashes.test(file) ? /^\s*(?:\/\/+|\/\*+|\*(?!\/))\s*(.*)$/ : /^\s*#+\s*(.*)$/;
  const trailing = slashes.test(file) ? /\s\/\/ (.*)$/ : /\s# (.*)$/;
  const found: number[] = [];
  let inside = false;
  for (const [index, line] of source.split("\n").entries()) {
    const own = whole.exec(line)?.[1];
    const text = own === undefined ? trailing.exec(line)?.[1] : inside ? undefined : own;
    // `/**` alone opens a comment whose text is on the next line.
    inside = own !== undefined && (inside || own !== "");
    if (text !== undefined && opening.test(text)) {
      found.push(index + 1);
    }
  }
  return found;
}

/** Every refused opening below the checkout's root, as `FILE:LINE`. */
export function findRefusedOpenings(): string[] {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  });
  return listed
    .split("\0")
    .filter((file) => (slashes.test(file) || hashes.test(file)) && !skipped.test(file))
    .flatMap((file) =>
      refusedOpenings(file, readFileSync(join(root, file), "utf8")).map((line) => `${file}:${line}`),
    );
}
