import assert from "node:assert/strict";
import { test } from "node:test";
import { answerTo } from "./resolver.ts";

const lookup = (name: string): string[] | undefined =>
  name === "web.internal" ? ["10.0.0.1", "10.0.0.2"] : undefined;

/** A query of one question of class IN. */
function query(name: string, type: number): Buffer {
  const labels = name.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Buffer.from([0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, type, 0, 1]);
}

test("a name's addresses are answered, whatever its case, under the query's number", () => {
  const answer = answerTo(query("Web.internal", 1), lookup);
  assert.ok(answer !== undefined);
  assert.equal(answer.readUInt16BE(0), 0xabcd);
  assert.equal(answer.readUInt16BE(2), 0x8180);
  assert.equal(answer.readUInt16BE(6), 2);
  assert.deepEqual([...answer.subarray(-4)], [10, 0, 0, 2]);
});

test("IPv6 addresses are answered to those who ask for them", () => {
  const answer = answerTo(query("web", 28), () => ["10.0.0.1", "fd73:a40:0:1::a40:4"]);
  assert.deepEqual(
    [answer?.readUInt16BE(6), answer?.subarray(-16).toString("hex")],
    [1, "fd730a4000000001000000000a400004"],
  );
});

test("a name without a record of the type has no answer, and one that is not there is an error", () => {
  const none = answerTo(query("web.internal", 28), lookup);
  assert.deepEqual([none?.readUInt16BE(2), none?.readUInt16BE(6)], [0x8180, 0]);
  const unknown = answerTo(query("nobody", 1), lookup);
  assert.deepEqual([unknown?.readUInt16BE(2), unknown?.readUInt16BE(6)], [0x8183, 0]);
});

test("what is no query gets no answer", () => {
  assert.equal(answerTo(Buffer.alloc(0), lookup), undefined);
  assert.equal(answerTo(query("web.internal", 1).subarray(0, 20), lookup), undefined);
  assert.equal(
    answerTo(Buffer.concat([query("x", 1).subarray(0, 12), Buffer.of(0xc0, 12)]), lookup),
    undefined,
  );
});
