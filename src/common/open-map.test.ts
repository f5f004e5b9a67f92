import assert from "node:assert/strict";
import { test } from "node:test";

import { z } from "zod";

import { openMap } from "./open-map.ts";

test("a map of a document keeps every key, and refuses what is no map or has other values", () => {
  const texts = openMap(z.string()).nullish();
  for (const text of ['{"__proto__":"a","constructor":"b","toString":"c"}', "{}", "null"]) {
    assert.equal(JSON.stringify(texts.parse(JSON.parse(text))), text);
  }
  for (const text of ["[]", '"x"', "1", '{"a":1}', '{"__proto__":{}}', '{"a":null}']) {
    assert.equal(texts.safeParse(JSON.parse(text)).success, false, text);
  }
});
