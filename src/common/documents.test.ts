import assert from "node:assert/strict";
import { describe, it } from "node:test";

import * as v from "valibot";

import {
  listOfAtMost,
  mustRead,
  object,
  openMap,
  orUndefined,
  read,
  type Schema,
  size,
  wholeNumber,
} from "./documents.ts";

describe("a document", () => {
  const schema = object({
    name: v.string(),
    size,
    tags: v.nullish(v.array(v.string()), []),
    version: v.literal(2),
    of: v.optional(object({ on: v.boolean() })),
  });
  const fitting = { name: "a", size: 1, version: 2 };

  it("is read with defaults for missing values, and without unknown ones", () => {
    const document = JSON.parse(
      '{"name":"a","size":1,"version":2,"tags":null,"more":1,"__proto__":{"of":1}}',
    );
    assert.deepEqual(read(schema, document), { value: { name: "a", size: 1, tags: [], version: 2 } });
    const nothing = object({ absent: v.optional(v.string()), given: orUndefined(v.string()) });
    assert.deepEqual(mustRead(nothing, { given: null }), { given: undefined });
  });

  it("that does not match is reported with the first place and the expected type", () => {
    const misfit = (document: unknown, of: Schema = schema) => {
      const { place, message } = read(of, document).misfit ?? { place: "", message: "it fits" };
      return `${place}: ${message}`;
    };
    const told = (changes: object) => misfit({ ...fitting, ...changes });
    assert.equal(misfit([]), ": Invalid input: expected object, received array");
    assert.equal(misfit(null), ": Invalid input: expected object, received null");
    assert.equal(misfit({}), "name: Invalid input: expected string, received undefined");
    assert.equal(told({ name: 1, size: "x" }), "name: Invalid input: expected string, received number");
    assert.equal(told({ tags: ["a", {}] }), "tags.1: Invalid input: expected string, received object");
    assert.equal(told({ of: { on: 1n } }), "of.on: Invalid input: expected boolean, received bigint");
    assert.equal(told({ of: {} }), "of.on: Invalid input: expected boolean, received undefined");
    assert.equal(told({ version: "2" }), "version: Invalid input: expected 2");
    assert.equal(told({ size: -1 }), "size: Too small: expected number to be >=0");
    assert.equal(told({ size: 1.5 }), "size: Invalid input: expected int, received number");
    assert.equal(told({ size: Infinity }), "size: Invalid input: expected number, received Infinity");
    assert.equal(misfit(2 ** 53, wholeNumber), ": Too big: expected int to be <=9007199254740991");
    assert.equal(misfit(-(2 ** 53), wholeNumber), ": Too small: expected int to be >=-9007199254740991");
    const few = listOfAtMost(1, v.string());
    assert.equal(misfit([1, 2], few), ": Too big: expected array to have <=1 items");
    assert.equal(misfit([1], few), "0: Invalid input: expected string, received number");
    assert.throws(() => mustRead(schema, { ...fitting, name: 1 }), { message: /^name: Invalid input/ });
    assert.throws(() => mustRead(schema, 1), { message: /^Invalid input/ });
  });

  it("is read no further than to the first place that does not fit", () => {
    let asked = 0;
    const never = v.check(() => ++asked === 0, "never");
    const list = v.array(v.pipe(v.unknown(), never));
    assert.deepEqual(read(list, [1, 2, 3]).misfit, { place: "0", message: "never" });
    assert.equal(asked, 1);
  });
});

describe("a map of a document", () => {
  it("keeps every key, and rejects anything but a map of such values", () => {
    const texts = v.nullish(openMap(v.string()));
    for (const text of ['{"__proto__":"a","constructor":"b","toString":"c"}', "{}", "null"]) {
      assert.equal(JSON.stringify(mustRead(texts, JSON.parse(text))), text);
    }
    for (const text of ["[]", '"x"', "1", '{"a":1}', '{"__proto__":{}}', '{"a":null}']) {
      assert.notEqual(read(texts, JSON.parse(text)).misfit, undefined, text);
    }
    assert.deepEqual(read(texts, { a: "b", c: 1, d: 2 }).misfit, {
      place: "c",
      message: "Invalid input: expected string, received number",
    });
  });
});
