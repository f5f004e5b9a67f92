/** The judgement of results, without a run. */
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, it } from "node:test";

import type { Allowance } from "./allowed.ts";
import { judge } from "./judge.ts";
import { conformanceDocument } from "./report.ts";
import { type Outcome, type Results, readResults } from "./results.ts";
import { isSkipped } from "./skipped.ts";

const told = (outcomes: Readonly<Record<string, Outcome>>, output = ""): Results =>
  new Map(Object.entries(outcomes).map(([name, outcome]) => [name, { outcome, output }]));

const allowance: Allowance = { suite: "s", test: "A/one", topic: "swarm", anchor: "there-is-no-swarm" };

describe("a test that is left out", () => {
  it("is left out with its subtests, in its suite alone", () => {
    assert.equal(isSkipped("integration/system", "TestDiskUsage"), true);
    assert.equal(isSkipped("integration/system", "TestDiskUsage/empty"), true);
    assert.equal(isSkipped("integration/system", "TestDiskUsages"), false);
    assert.equal(isSkipped("integration/image", "TestDiskUsage"), false);
  });
});

describe("the judge", () => {
  it("expects no failure of a test that the reference passes", () => {
    const { unexpected } = judge(told({ A: "fail" }), told({ A: "pass" }), [], true);
    assert.deepEqual(
      unexpected.map(({ test }) => test),
      ["A"],
    );
  });

  it("counts a test that did not end as failed", () => {
    const { unexpected } = judge(told({ A: "unfinished" }), told({ A: "pass" }), [], true);
    assert.equal(unexpected.length, 1);
  });

  it("expects a failure that the reference has, too", () => {
    const { unexpected, failBoth } = judge(told({ A: "fail" }), told({ A: "fail" }), [], true);
    assert.deepEqual([unexpected.length, failBoth.length], [0, 1]);
  });

  it("names the subtest that failed, not those above it", () => {
    const ours = told({ A: "fail", "A/one": "fail", "A/two": "pass" });
    const { unexpected, ran } = judge(ours, told({ A: "pass", "A/one": "pass", "A/two": "pass" }), [], true);
    assert.deepEqual(
      unexpected.map(({ test }) => test),
      ["A/one"],
    );
    assert.equal(ran, 2);
  });

  it("allows what has a reason, and tells of a reason that is not needed", () => {
    const theirs = told({ A: "pass", "A/one": "pass" });
    const failing = judge(told({ A: "fail", "A/one": "fail" }), theirs, [allowance], true);
    assert.deepEqual([failing.unexpected, failing.passedThough, failing.allowed.length], [[], [], 1]);
    const passing = judge(theirs, theirs, [allowance], true);
    assert.deepEqual(passing.passedThough, [allowance]);
  });

  it("tells of a reason for a test that is no longer there, but not of one that was not to run", () => {
    const both = told({ B: "pass" });
    assert.deepEqual(judge(both, both, [allowance], true).passedThough, [allowance]);
    assert.deepEqual(judge(both, both, [allowance], false).passedThough, []);
  });

  it("takes an answer that says what is not built for a reason", () => {
    const output = 'sockerless: docker build is not implemented by backend "local"';
    const { allowed, unexpected } = judge(told({ A: "fail" }, output), told({ A: "pass" }), [], true);
    assert.deepEqual([allowed.map(({ allowance: { topic } }) => topic), unexpected], [["build"], []]);
  });
});

it("the document says when each suite ran, and how a test ended that counts as it ended alone", () => {
  const judged = { ...judge(told({ A: "pass" }), told({ A: "pass" }), [], true), day: "2026-11-20" };
  const tests = [{ test: "A", before: "fail", now: "pass" }] as const;
  const again = { ...judged, again: { day: "2026-11-21", tests } };
  const text = conformanceDocument(new Map([["s", again]]), "", ["s"]);
  assert.match(text, /^\| s \| 2026-11-20 \| 1 \| 1 \| 1 \| 1 \| 0 \|$/m);
  assert.match(text, /^- \*\*s\*\*, on 2026-11-21: `A` \(fail, then pass\)$/m);
  assert.doesNotMatch(conformanceDocument(new Map([["s", judged]]), text, ["s"]), /Run again/);
});

it("the document keeps what it says of suites that did not run now, in the order of all", () => {
  const names = ["s", "s/part", "t"];
  const of = (outcome: Outcome, day: string) => ({
    ...judge(told({ A: "fail", B: "fail", C: outcome }), told({ A: "fail", B: "pass", C: "pass" }), [], true),
    day,
    again: { day, tests: [{ test: "B", before: "pass", now: "fail" }] } as const,
  });
  const all = (day: string) => new Map(names.map((name) => [name, of("pass", day)]));
  const before = conformanceDocument(all("2026-11-20"), "", names);
  assert.equal(conformanceDocument(new Map(), before, names), before);
  const renewed = conformanceDocument(new Map([["s", of("fail", "2026-11-22")]]), before, names);
  const both = all("2026-11-20").set("s", of("fail", "2026-11-22"));
  assert.equal(renewed, conformanceDocument(both, "", names));
  assert.match(renewed, /^- \*\*s\*\*: `B`, `C`\n- \*\*s\/part\*\*: `B`\n/m);
  assert.doesNotMatch(conformanceDocument(new Map(), renewed, ["s"]), /s\/part|\*\*t\*\*/);
});

it("events of a test are read, and lines between them are not", async () => {
  const lines = [
    '{"Action":"run","Test":"A"}',
    "panic: something",
    '{"Action":"output","Test":"A","Output":"said\\n"}',
    '{"Action":"pass","Test":"A"}',
    '{"Action":"run","Test":"B"}',
    '{"Action":"fail"}',
  ];
  const results = await readResults(Readable.from([lines.join("\n")]));
  assert.deepEqual(
    [...results],
    [
      ["A", { outcome: "pass", output: "said\n" }],
      ["B", { outcome: "unfinished", output: "" }],
    ],
  );
});
