/** Tests of what a newcomer meets first: npm scripts on a fresh machine, and the commands of CONTRIBUTING.md. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { root } from "./program.ts";

const read = (path: string): string => readFileSync(join(root, path), "utf8");

describe("a newcomer", () => {
  it("has what npm scripts need installed by them", () => {
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
    const prepared = Object.keys(scripts).filter((name) =>
      /^(exec )?node scripts\/run\.mjs( --build)? --tests /.test(scripts[name] ?? ""),
    );
    const whole = ["start", "build", "test"]; // They prepare by programs of their own.
    const without = ["generate", "image", "package", "proto:baseline"]; // npm packages are enough.
    const bare = ["stop"]; // It prepares nothing: there is nothing to end where nothing was built.
    assert.deepEqual(new Set([...prepared, ...whole, ...without, ...bare]), new Set(Object.keys(scripts)));
    for (const name of prepared) {
      const program = /--tests ([\w-]+)$/.exec(scripts[name] ?? "")?.[1];
      assert.ok(existsSync(join(root, `scripts/${program}.ts`)), name);
    }
  });

  it("finds what CONTRIBUTING.md names", () => {
    const text = read("CONTRIBUTING.md");
    const linked = [...text.matchAll(/\]\(([\w./-]+)[^)]*\)/g)].map(([, path = ""]) => path);
    const named = [...text.matchAll(/\b((?:src|test|docs|scripts|proto)\/[\w./-]+\.\w+)/g)].map(
      ([, path = ""]) => path,
    );
    for (const path of [...linked, ...named]) {
      const source = path.replace(/\.js$/, ".ts");
      assert.ok(existsSync(join(root, source)), path);
    }
  });

  it("runs at least one test by each command of CONTRIBUTING.md that picks some", () => {
    const text = read("CONTRIBUTING.md");
    const [, file = "", pattern = ""] = /npm test -- (\S+) --test-name-pattern='([^']+)'/.exec(text) ?? [];
    assert.match(read(file), new RegExp(`\\b(test|it|describe)\\("[^"]*${pattern}`));
    const [, folder = "", name = ""] = /go test \.\/(\S+) -run (\w+)/.exec(text) ?? [];
    const sources = globSync(join(root, "agent", folder, "*_test.go")).map((path) =>
      readFileSync(path, "utf8"),
    );
    assert.ok(sources.some((source) => source.includes(`\nfunc ${name}`)));
  });
});
