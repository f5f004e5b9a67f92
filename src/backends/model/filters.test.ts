import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { Filters } from "./filters.ts";
import { MatchingTime } from "./re2.ts";

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

test("an expression is bounded with all that it repeats or lists, alone and with others of its request", () => {
  const address = "^[0-9]{1,3}([.][0-9]{1,3}){3}$";
  const id = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
  assert.equal(matches(address, "10.0.0.17"), true);
  assert.equal(matches(String.raw`(?i)^/[а-я]+\pL$`, "/ЩИБ"), true);
  assert.equal(matches(id, "/x-0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a"), true);
  for (const large of [
    ".{0,1000}".repeat(455),
    ".{1000}{1}".repeat(5),
    `(${"a?".repeat(200)}){30}`,
    "(((((.{5}){5}){5}){5})[)]){5}",
    "(".repeat(9) + "w".repeat(100) + "){2}".repeat(9),
    "[^\\pL]".repeat(60),
    "(?i)[b-\u{1e943}]".repeat(2),
    String.raw`(?s-U:(?mi:[b-\x{10FFFF}]))`,
  ]) {
    assert.equal(matches(`w|${large}`, "w"), false, large.slice(0, 40));
  }
  const many = Array.from({ length: 2000 }, (_, n) => `^x${n}y.{0,90}$`);
  const filters = new Filters({ name: create(StringListSchema, { values: many }) }, ["name"]);
  assert.equal(filters.matches("name", "x1y-"), true);
  assert.equal(filters.matches("name", "x1999y-"), false);
});

test("any number of whole names is found, without the engine of expressions", () => {
  const values = Array.from({ length: 2000 }, (_, n) => `^/a-name-that-is-rather-long-${n}$`);
  const filters = new Filters({ name: create(StringListSchema, { values }) }, ["name"]);
  assert.equal(filters.matches("name", "/a-name-that-is-rather-long-1999"), true);
  assert.equal(filters.matches("name", "/a-name-that-is-rather-long-19999"), false);
  assert.equal(filters.matches("name", "x/a-name-that-is-rather-long-1"), false);
});

test("thousands of names that may be any part of a text share the time of expressions", ({ mock }) => {
  mock.method(performance, "now", () => 0); // A busy machine gives little CPU time in a second.
  const values = Array.from({ length: 2_048 }, (_, n) => `a-part-that-is-rather-long-${n}`);
  const filters = new Filters({ name: { values } } as never, ["name"], new MatchingTime());
  const last = "a-part-that-is-rather-long-2047";
  assert.equal(filters.matches("name", `/${last}/b`), true);
  assert.equal(filters.matches("name", last.slice(1)), false);
  const matchMany = (): void => {
    for (let times = 0; times < 100_000; times++) {
      filters.matches("name", last.slice(1));
    }
  };
  assert.throws(matchMany, { kind: "unavailable", message: /filters have taken too long/ });
});

test("no beginning is looked up that is longer than the text, and many are charged as many names are", (context) => {
  const time = new MatchingTime();
  const { mock: charged } = context.mock.method(time, "run");
  const beginnings = (count: number): Filters =>
    new Filters(
      { id: { values: Array.from({ length: count }, (_, n) => "z".repeat(count - n)) } } as never,
      ["id"],
      time,
    );
  const text = { length: 20, slice: () => "a" };
  const { mock: lookUps } = context.mock.method(text, "slice");
  assert.equal(beginnings(30).hasPrefix("id", text as never), false);
  assert.deepEqual([lookUps.callCount(), charged.callCount()], [20, 0]);
  const many = beginnings(500);
  assert.equal(many.hasPrefix("id", text as never), false);
  assert.deepEqual([lookUps.callCount(), charged.callCount()], [40, 1]);
  assert.equal(many.matchesPrefix("id", `${"z".repeat(19)}a`), true);
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
