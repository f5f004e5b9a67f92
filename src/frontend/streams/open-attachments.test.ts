import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";

import { ManualClock } from "../../common/manual-clock.ts";
import { OpenAttachments } from "./open-attachments.ts";

const id = "0123456789abcdef";

/** Whether a wait has been answered, and with what. */
function waiting(attachments: OpenAttachments) {
  const wait: { isLost?: boolean } = {};
  void attachments.losesOutput(id, new AbortController().signal).then((isLost) => {
    wait.isLost = isLost;
  });
  return wait;
}

test("a wait is answered once the container's attachments are over, and knows of a loss", async () => {
  for (const isLost of [false, true]) {
    const clock = new ManualClock();
    const attachments = new OpenAttachments(undefined, clock);
    const [client] = duplexPair();
    using other = await attachments.begin({ id: "f".repeat(16), client });
    other.served();
    using _unstarted = await attachments.begin({ id, client });
    const open = await attachments.begin({ id, client });
    open.served();
    const wait = waiting(attachments);
    await clock.advance(10_000);
    assert.equal(wait.isLost, undefined);
    if (isLost) {
      open.lost();
    }
    open[Symbol.dispose]();
    await clock.advance(0);
    assert.equal(wait.isLost, isLost);
  }
});

test("a wait does not depend on who reads nothing, and on no attachment for ever", async () => {
  const clock = new ManualClock();
  const attachments = new OpenAttachments(undefined, clock);
  const [client, deaf] = [duplexPair()[0], duplexPair()[0]];
  deaf.cork();
  deaf.write("unread");
  {
    using open = await attachments.begin({ id, client: deaf });
    open.served();
    const wait = waiting(attachments);
    await clock.advance(1_000);
    assert.equal(wait.isLost, false);
  }
  using open = await attachments.begin({ id, client });
  open.served();
  const wait = waiting(attachments);
  await clock.advance(40_000);
  assert.equal(wait.isLost, undefined);
  await clock.advance(10_000);
  assert.equal(wait.isLost, false);
});

test("however many wait for a container, its attachments are looked at once", async () => {
  const clock = new ManualClock();
  const attachments = new OpenAttachments(undefined, clock);
  const open = await attachments.begin({ id, client: duplexPair()[0] });
  open.served();
  const early = Array.from({ length: 100 }, () => waiting(attachments));
  assert.equal(clock.sleeping, 1);
  const other = await attachments.begin({ id, client: duplexPair()[0] });
  other.served();
  const late = waiting(attachments);
  open[Symbol.dispose]();
  await clock.advance(0);
  assert.deepEqual([early.every(({ isLost }) => isLost === false), late.isLost], [true, undefined]);
  other.lost();
  other[Symbol.dispose]();
  await clock.advance(0);
  assert.equal(late.isLost, true);
  assert.equal(clock.sleeping, 0);
});

test("a wait ends with its client", async () => {
  const attachments = new OpenAttachments(undefined, new ManualClock());
  using open = await attachments.begin({ id, client: duplexPair()[0] });
  open.served();
  const left = new AbortController();
  const wait = attachments.losesOutput(id, left.signal);
  left.abort(new Error("left"));
  await assert.rejects(wait, /left/);
});
