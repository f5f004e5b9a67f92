/**
 * Uses of what Node and Go do not promise. `docs/internals.md` names each file that reaches into their insides, and the
 * tests that fail when a new version takes them away.
 */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { root } from "./program.ts";

const page = "docs/internals.md";

const insideNode =
  /[\w)\]]\._[a-z]|\{ _[a-z]\w*:|\bkStream|\bhttpAllowHalfOpen\b|\bonIncoming\b|\.listeners\(|getOwnPropertySymbols|process\.binding|node:ffi|\bsetFlagsFromString\b|globalThis\.gc\b/;
const insideGo = /go:linkname|"unsafe"|"reflect"|\bRawSyscall|asyncpreemptoff/;
/** Tests may do as they like; what is generated is others' business. */
const skipped = /\.test\.ts$|_test\.go$|^src\/gen\/|\/testdata\//;

/** Tells whether a source reaches into its runtime. @param file path from the checkout, with `/` */
export function reachesInside(file: string, source: string): boolean {
  return !skipped.test(file) && (file.endsWith(".go") ? insideGo : insideNode).test(source);
}

/** Complaints about the page: files that it lacks or names in vain, and tests that are not there. */
export function findUnlisted(): string[] {
  const text = readFileSync(join(root, page), "utf8");
  const reaching = globSync(["src/**/*.ts", "agent/**/*.go"], { cwd: root }).filter((file) =>
    reachesInside(file, read(file)),
  );
  const named = [...text.matchAll(/^\| \[[^\]]*\]\(\.\.\/([^)]+)\)/gm)].map(([, file = ""]) => file);
  const tests = [...text.matchAll(/\]\(\.\.\/([^)]+)\): "([^"]+)"/g)];
  return [
    ...reaching.filter((file) => !named.includes(file)).map((file) => `${page} does not name ${file}`),
    ...named.filter((file) => !reaching.includes(file)).map((file) => `${page} names ${file} in vain`),
    ...tests
      .filter(([, file = "", title = ""]) => !read(file).includes(title))
      .map(([, file, title]) => `${page}: ${file} has no test "${title}"`),
  ];
}

function read(file: string): string {
  return readFileSync(join(root, file), "utf8");
}
