import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";

import { UnreadAnswers } from "./unread-answers.ts";

class Answer extends EventEmitter {
  destroyed = false;
  destroy(): void {
    this.destroyed = true;
    this.emit("close");
  }
}

test("an answer whose client has left already is not counted", () => {
  const unread = new UnreadAnswers(10);
  const [left, kept, next] = [new Answer(), new Answer(), new Answer()];
  left.destroy();
  for (const answer of [left, kept, next]) {
    unread.add(answer as unknown as ServerResponse, 5);
  }
  assert.equal(kept.destroyed, false);
});

test("the answers that wait longest are cut for a new one, and none that was sent", () => {
  const unread = new UnreadAnswers(10);
  const answers = Array.from({ length: 6 }, () => new Answer());
  const add = (index: number, length: number) =>
    unread.add(answers[index] as unknown as ServerResponse, length);
  const cut = () => answers.flatMap(({ destroyed }, index) => (destroyed ? [index] : []));
  add(0, 4);
  add(1, 4);
  answers[0]?.emit("close");
  add(2, 6);
  assert.deepEqual(cut(), []);
  add(3, 1);
  assert.deepEqual(cut(), [1]);
  add(4, 100);
  assert.deepEqual(cut(), [1, 2, 3]);
  add(5, 10);
  assert.deepEqual(cut(), [1, 2, 3, 4]);
});
