import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Passages } from "./passages.ts";

const agent = (containerId: string, pin = `key of ${containerId}`) => ({ containerId, pin });
const [web, db, other] = [agent("web"), agent("db"), agent("other")];

function passages(): Passages {
  const made = new Passages();
  made.allow(web.containerId, { pin: web.pin, others: [db] });
  return made;
}

describe("a connection between agents", () => {
  it("leads to those that the agent may reach, by the keys that they are known by", () => {
    const { to } = passages().open(web, db.containerId);
    assert.equal(to, db);
  });

  it("is refused to others, and to another agent of the same container", () => {
    const made = passages();
    assert.throws(() => made.open(web, other.containerId), /may not reach/);
    assert.throws(() => made.open(db, web.containerId), /may not reach/);
    assert.throws(() => made.open(agent("web", "another key"), db.containerId), /may not reach/);
  });

  it("is cut once the agent may not reach the other any more, and no other is", () => {
    const made = passages();
    made.allow(web.containerId, { pin: web.pin, others: [db, other] });
    const [toDb, toOther] = [made.open(web, db.containerId), made.open(web, other.containerId)];
    made.allow(web.containerId, { pin: web.pin, others: [other] });
    assert.ok(toDb.cut.signal.aborted);
    assert.ok(!toOther.cut.signal.aborted);
    made.allow(web.containerId, undefined);
    assert.ok(toOther.cut.signal.aborted);
  });

  it("is cut when either container has another agent", () => {
    const made = passages();
    const first = made.open(web, db.containerId);
    made.allow(web.containerId, { pin: web.pin, others: [agent("db", "its next key")] });
    assert.ok(first.cut.signal.aborted);
    const next = made.open(web, db.containerId);
    made.allow(web.containerId, { pin: "its next key", others: [agent("db", "its next key")] });
    assert.ok(next.cut.signal.aborted);
  });

  it("is one of so many, until others end", () => {
    const made = passages();
    const first = made.open(web, db.containerId);
    for (let count = 1; count < 128; count++) {
      made.open(web, db.containerId);
    }
    assert.throws(() => made.open(web, db.containerId), /connections enough/);
    made.end(first);
    made.open(web, db.containerId);
  });
});
