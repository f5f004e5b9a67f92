import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { Filters } from "./filters.ts";

const matches = (pattern: string, text: string): boolean =>
  new Filters({ name: create(StringListSchema, { values: [pattern] }) }, ["name"]).matches("name", text);

test("a name is found in a text, and so is an expression, whose engine is loaded for none but these", () => {
  const require = createRequire(import.meta.url);
  const isLoaded = (): boolean => require.resolve("re2js") in require.cache;
  assert.deepEqual(
    [matches("web", "/web-1"), matches("", "/web"), matches("Web", "/web")],
    [true, true, false],
  );
  assert.deepEqual([matches("/", "/web"), matches("a/b:c-d_1", "x/a/b:c-d_12")], [true, true]);
  assert.equal(isLoaded(), false);

  assert.deepEqual(
    [matches("w.b", "/web"), matches("^web", "/web"), matches("(?i)WEB", "/web")],
    [true, false, true],
  );
  assert.equal(matches("(", "(web"), false, "this is no expression");
  assert.equal(isLoaded(), true);
});
