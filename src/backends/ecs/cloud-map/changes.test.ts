import assert from "node:assert/strict";
import { test } from "node:test";

import { NameChanges } from "./changes.ts";

test("networks take turns, whoever has more names that wait", () => {
  const pauses = { register: 0 };
  const changes = new NameChanges<"register">((kind) => pauses[kind]);
  const take = (): string => {
    const { name = "" } = changes.next(20) ?? {};
    changes.delete(name);
    return name;
  };
  for (const kind of [undefined, "register"] as const) {
    for (const name of ["a.one", "b.one", "c.one", "a.two", "b.two"]) {
      changes.put({ name, attempts: 0, dueMs: 0 }, kind);
    }
    assert.deepEqual(Array.from({ length: 6 }, take), ["a.one", "a.two", "b.one", "b.two", "c.one", ""]);
    assert.equal(changes.size, 0);
  }
  changes.put({ name: "a.two", attempts: 1, dueMs: 10 });
  changes.put({ name: "b.two", attempts: 1, dueMs: 30 });
  changes.put({ name: "a.one", attempts: 0, dueMs: 0 });
  changes.put({ name: "b.one", attempts: 0, dueMs: 0 });
  assert.deepEqual(Array.from({ length: 4 }, take), ["a.two", "a.one", "b.one", "b.two"]);
});
