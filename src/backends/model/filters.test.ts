import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { Filters } from "./filters.ts";

const matches = (pattern: string, text: string): boolean =>
  new Filters({ name: create(StringListSchema, { values: [pattern] }) }, ["name"]).matches("name", text);

test("a name is found in a text, and so is an expression", () => {
  assert.deepEqual(
    [matches("web", "/web-1"), matches("", "/web"), matches("Web", "/web")],
    [true, true, false],
  );
  assert.deepEqual([matches("/", "/web"), matches("a/b:c-d_1", "x/a/b:c-d_12")], [true, true]);
  assert.deepEqual(
    [matches("w.b", "/web"), matches("^web", "/web"), matches("(?i)WEB", "/web")],
    [true, false, true],
  );
  assert.equal(matches("(", "(web"), false, "this is no expression");
});

test("the engine of expressions is loaded for none but these", () => {
  const [, extension = ""] = /(\.[jt]s)$/.exec(import.meta.url) ?? [];
  const filters = JSON.stringify(new URL(`./filters${extension}`, import.meta.url));
  const loadedAfter = (text: string): string =>
    execFileSync(process.execPath, ["--input-type=module", "--eval", program(filters, text)], {
      cwd: import.meta.dirname,
      encoding: "utf8",
    });
  assert.equal(loadedAfter("web"), "false\n");
  assert.equal(loadedAfter("w.b"), "true\n");
});

/** Looks for a name in a process of its own, and tells whether the engine was loaded. */
const program = (filters: string, text: string): string => `
  import { createRequire } from "node:module";
  const { Filters } = await import(${filters});
  new Filters({ name: { values: [${JSON.stringify(text)}] } }, ["name"]).matches("name", "/web");
  const require = createRequire(${filters});
  console.log(require.resolve("re2js") in require.cache);
`;
