import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { root } from "./program.ts";

/** A test that the map names. */
interface NamedTest {
  readonly file: string;
  readonly title: string;
}

const page = "docs/acceptance.md";

/** The part of the page that maps Docker's behaviour, its last. */
function map(): string {
  const text = readFileSync(join(root, page), "utf8");
  return text.slice(text.indexOf("\n## Docker behaviour\n"));
}

/** The last two cells of each row of the document's tables. */
function testsIn(document: string): NamedTest[] {
  const rows = document.matchAll(/^\| .*\| `([^`|]+\.(?:ts|go))` \| (.+) \|$/gm);
  return [...rows].map(([, file = "", title = ""]) => ({
    file,
    title: title.replace(/^`(.*)`$/, "$1").replaceAll("\\|", "|"),
  }));
}

/** True if a source begins a test, or a group of tests, whose title has this part. */
function hasTest(file: string, source: string, title: string): boolean {
  if (file.endsWith(".go")) {
    return source.includes(`\nfunc ${title}(`);
  }
  const titles = source.matchAll(/\b(?:test|it|describe)\(\s*(["'`])((?:\\.|(?!\1)[^\\])*)\1/g);
  return [...titles].some(([, , text = ""]) => text.includes(title));
}

describe("the map of Docker's behaviour", () => {
  const tests = testsIn(map());

  it("is read: every row of its tables names a test", () => {
    const rows = map()
      .split("\n")
      .filter((line) => line.startsWith("|") && !/^\|(---|\s*behaviour )/.test(line));
    assert.equal(tests.length, rows.length);
    assert.ok(tests.length > 100, String(tests.length));
  });

  it("names tests that are there", () => {
    const missing = tests.filter(({ file, title }) => {
      const path = join(root, file);
      return !existsSync(path) || !hasTest(file, readFileSync(path, "utf8"), title);
    });
    assert.deepEqual(missing, []);
  });

  it("would miss a test that is renamed", () => {
    assert.ok(hasTest("a.ts", 'test(\n  "an apple falls", async () => {});', "an apple falls"));
    assert.ok(hasTest("a.ts", "it(`is $" + "{colour} and round`, () => {})", "and round"));
    assert.ok(
      !hasTest("a.ts", 'it("is blue", () => assert.equal(text, "an apple falls"))', "an apple falls"),
    );
    assert.ok(hasTest("a_test.go", "\nfunc TestApples(t *testing.T) {", "TestApples"));
    assert.ok(!hasTest("a_test.go", "\nfunc TestApplesFall(t *testing.T) {", "TestApples"));
  });
});

describe("the acceptance criteria", () => {
  it("name files that are there", () => {
    const document = readFileSync(join(root, page), "utf8");
    const paths = [...document.matchAll(/`((?:src|test|scripts|deploy)\/[^`\s]+)`/g)].map(
      ([, path = ""]) => path,
    );
    assert.ok(paths.length > 30, String(paths.length));
    assert.deepEqual(
      paths.filter((path) => globSync(path, { cwd: root }).length === 0),
      [],
    );
  });
});
