import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { QuotaLines } from "./quota-lines.ts";

describe("lines of starts", () => {
  it("are one for a size as long as somebody waits in it, also where one that was left before ends again", () => {
    const lines = new QuotaLines();
    const before = lines.of("256");
    before.join()[Symbol.dispose]();
    const line = lines.of("256");
    assert.notEqual(line, before);
    const place = line.join();
    before.join()[Symbol.dispose]();
    assert.equal(lines.of("256"), line);
    place[Symbol.dispose]();
    assert.notEqual(lines.of("256"), line);
  });
});
