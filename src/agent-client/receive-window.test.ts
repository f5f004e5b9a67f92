import assert from "node:assert/strict";
import type { ClientHttp2Session } from "node:http2";
import { test } from "node:test";

import { ByteBudget } from "../common/byte-budget.ts";
import { leastWindow, ReceiveWindow } from "./receive-window.ts";

const mib = 1024 * 1024;

/** A session that notes what it would tell its peer. */
function sessionOf(): { readonly session: ClientHttp2Session; readonly told: number[]; answer(): void } {
  const told: number[] = [];
  const unanswered: (() => void)[] = [];
  const settings = ({ initialWindowSize = 0 }, answered: () => void): void => {
    told.push(initialWindowSize);
    unanswered.push(answered);
  };
  const session = { closed: false, destroyed: false, settings } as unknown as ClientHttp2Session;
  return { session, told, answer: () => unanswered.shift()?.() };
}

/** As much as brings the largest window there can be. */
function readOn(window: ReceiveWindow, answer: () => void): void {
  for (let count = 0; count < 1000; count++) {
    window.read(leastWindow);
    answer();
  }
}

test("the window of a stream that is read grows, and is small again for the next", () => {
  const { session, told, answer } = sessionOf();
  const window = new ReceiveWindow(session, new ByteBudget(32 * mib));
  window.opened();
  assert.deepEqual(told, []);
  readOn(window, answer);
  assert.deepEqual(told, [2 * mib]);
  window.closed();
  assert.deepEqual(told, [2 * mib, leastWindow]);
});

test("one change is sent at a time, then the latest", () => {
  const { session, told, answer } = sessionOf();
  const window = new ReceiveWindow(session, new ByteBudget(32 * mib));
  window.opened();
  readOn(window, () => {});
  assert.deepEqual(told, [2 * mib]);
  for (let streams = 1; streams < 100; streams++) {
    window.opened();
  }
  assert.deepEqual(told, [2 * mib]);
  answer();
  assert.deepEqual(told, [2 * mib, 4 * leastWindow]);
});

test("the windows of many streams keep within the budget, beside their least, and give it all back", () => {
  const budget = new ByteBudget(32 * mib);
  const sessions = Array.from({ length: 5 }, () => {
    const { session, told, answer } = sessionOf();
    return { window: new ReceiveWindow(session, budget), told, answer };
  });
  for (let round = 0; round < 100; round++) {
    for (const { window, answer } of sessions) {
      window.opened();
      readOn(window, answer);
    }
  }
  const promised = sessions.reduce((sum, { told }) => sum + 100 * (told.at(-1) ?? leastWindow), 0);
  assert.ok(promised <= 32 * mib + 500 * leastWindow, `${promised} bytes`);
  for (const { window } of sessions) {
    Array.from({ length: 100 }, () => window.closed());
  }
  assert.equal(budget.share(0, 100 * mib), 4 * mib);
});
