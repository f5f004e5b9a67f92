import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { formatDuration, formatSize, parseDuration, parseSize } from "./units.ts";

describe("durations", () => {
  it("are read as people write them", () => {
    assert.equal(parseDuration("60s"), 60_000);
    assert.equal(parseDuration("1m30s"), 90_000);
    assert.equal(parseDuration("500ms"), 500);
    assert.equal(parseDuration("1.5h"), 5_400_000);
    assert.equal(parseDuration("0"), 0);
  });

  it("need a unit and nothing else", () => {
    for (const text of ["60", "", "s", "-1s", "1 s", "1s later", "1x"]) {
      assert.equal(parseDuration(text), undefined, text);
    }
  });

  it("are written so that they are read again", () => {
    for (const ms of [0, 1, 999, 1000, 90_000, 60_000, 3_600_000, 86_400_000]) {
      assert.equal(parseDuration(formatDuration(ms)), ms);
    }
  });
});

describe("sizes", () => {
  it("are powers of 1024, whatever the spelling", () => {
    assert.equal(parseSize("64MiB"), 64 * 1024 ** 2);
    assert.equal(parseSize("64m"), 64 * 1024 ** 2);
    assert.equal(parseSize("1 gb"), 1024 ** 3);
    assert.equal(parseSize("1024"), 1024);
    assert.equal(parseSize("10b"), 10);
  });

  it("are refused otherwise", () => {
    for (const text of ["", "MiB", "-1", "1x", "1 2"]) {
      assert.equal(parseSize(text), undefined, text);
    }
  });

  it("are written so that they are read again", () => {
    for (const bytes of [0, 1, 1024, 1500, 64 * 1024 ** 2, 1024 ** 3]) {
      assert.equal(parseSize(formatSize(bytes)), bytes);
    }
  });
});
