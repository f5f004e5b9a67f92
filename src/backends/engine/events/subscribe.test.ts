import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { ManualClock } from "../../../common/manual-clock.ts";
import { Journal } from "../../state/journal.ts";
import { subscribe } from "./subscribe.ts";

test("a subscriber who has left before the subscription leaves no listener, though nobody reads", () => {
  const clock = new ManualClock();
  const journal = new Journal(clock);
  const wanted = { sinceNs: undefined, untilNs: undefined, wants: () => true };
  subscribe(journal, clock, wanted, AbortSignal.abort());
  assert.equal(journal.listeners, 0);
});

test("events of a crowd leave turns of the event loop to others, and reach each subscriber in order", async () => {
  const clock = new ManualClock();
  const journal = new Journal(clock);
  const wanted = { sinceNs: undefined, untilNs: undefined, wants: () => true };
  const leave = new AbortController();
  const actions = ["create", "start", "die"];
  let delivered = 0;
  const subscribers = Array.from({ length: 500 }, async () => {
    const received: string[] = [];
    for await (const { action } of subscribe(journal, clock, wanted, leave.signal)) {
      delivered += 1;
      received.push(action);
      if (received.length === actions.length) {
        break;
      }
    }
    return received;
  });
  for (const action of actions) {
    journal.announce(journal.append({ type: "container", action, actorId: "one" }, []));
  }
  const counts = [0];
  while (delivered < subscribers.length * actions.length) {
    await nextTurn();
    counts.push(delivered);
  }
  const most = Math.max(...counts.slice(1).map((count, n) => count - (counts[n] ?? 0)));
  assert.ok(most <= 2 * 64, `${most} in a turn`); // A turn of the test may lie before or after that of the deliveries.
  assert.deepEqual(
    await Promise.all(subscribers),
    subscribers.map(() => actions),
  );
  assert.equal(journal.listeners, 0);
});

test("past events that nobody asked for take no turns of deliveries", async () => {
  const clock = new ManualClock(1_700_000_000_000);
  const journal = new Journal(clock);
  for (let number = 0; number < 4_096; number += 1) {
    journal.append({ type: "image", action: number === 4_095 ? "untag" : "tag", actorId: "one" }, []);
  }
  const wanted = {
    sinceNs: 0n,
    untilNs: undefined,
    wants: ({ action }: { action: string }) => action === "untag",
  };
  const leave = new AbortController();
  const search = subscribe(journal, clock, wanted, leave.signal)[Symbol.asyncIterator]();
  let isFound = false;
  const found = search.next().then(() => {
    isFound = true;
  });
  let turns = 0;
  for (; !isFound; turns += 1) {
    await nextTurn();
  }
  await found;
  leave.abort();
  assert.ok(turns < 4_096 / 32, `${turns} turns`);
});

for (const [what, events, text] of [
  ["many events", 20_000, "pull"],
  ["long events", 40, "x".repeat(2 ** 22)],
] as const) {
  test(`a subscriber that does not read ${what} is no longer listened for, and is told so`, async () => {
    const clock = new ManualClock();
    const journal = new Journal(clock);
    const wanted = { sinceNs: undefined, untilNs: undefined, wants: () => true };
    const stream = subscribe(journal, clock, wanted, new AbortController().signal)[Symbol.asyncIterator]();
    const append = (action: string): void =>
      journal.announce(journal.append({ type: "image", action, actorId: "one" }, []));
    append("first");
    assert.equal((await stream.next()).value?.action, "first");
    for (let n = 0; n < events; n++) {
      append(text);
    }
    assert.equal(journal.listeners, 0);
    await assert.rejects(stream.next(), /too slow/);
  });
}

for (const [what, isBounded] of [
  ["all", false],
  ["past", true],
] as const) {
  test(`followers of ${what} events that have stopped reading hold none of their own`, async () => {
    setFlagsFromString("--expose-gc");
    const collectGarbage = runInNewContext("gc") as () => void;
    const limit = 16;
    const clock = new ManualClock(1_700_000_000_000);
    const journal = new Journal(clock, limit);
    const events: WeakRef<object>[] = [];
    const followers = [];
    for (let number = 0; number < 10; number++) {
      for (let action = 0; action < 4 * limit; action++) {
        const event = journal.append({ type: "image", action: `${action}`, actorId: "one" }, []);
        events.push(new WeakRef(event));
        journal.announce(event);
      }
      const untilNs = isBounded ? journal.past().at(-1)?.timeUnixNs : undefined;
      const wanted = { sinceNs: 0n, untilNs, wants: () => true };
      const follower = subscribe(journal, clock, wanted, new AbortController().signal)[
        Symbol.asyncIterator
      ]();
      await follower.next();
      followers.push(follower);
    }
    await nextTurn();
    collectGarbage();
    const left = events.filter((event) => event.deref() !== undefined).length;
    assert.ok(left <= 6 * limit + followers.length, `${left} left`);
    await assert.rejects(followers[0]?.next() ?? Promise.resolve(), /too slow/);
  });
}

test("followers of many past events share the list of them, and have each, whatever is dropped or taken back meanwhile", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const clock = new ManualClock(1_700_000_000_000);
  const journal = new Journal(clock);
  const append = (actorId: number) =>
    journal.append({ type: "image", action: "pull", actorId: String(actorId) }, []);
  for (let number = 0; number < 4_096; number += 1) {
    journal.announce(append(number));
  }
  const wanted = { sinceNs: 0n, untilNs: undefined, wants: () => true };
  const follow = () =>
    subscribe(journal, clock, wanted, new AbortController().signal)[Symbol.asyncIterator]();
  const follower = follow();
  const heap = (): number => {
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const before = heap();
  const others = Array.from({ length: 500 }, follow);
  const bytes = (heap() - before) / others.length;
  assert.ok(bytes < 16_384, `${bytes} bytes for each`);
  for (let number = 0; number < 8_192; number += 1) {
    if (number % 1_000 === 0) {
      journal.retract([append(-1)], []);
    }
    if (number >= 4_096) {
      journal.announce(append(number));
    }
    assert.equal((await follower.next()).value?.actorId, String(number));
  }
});

test("long past events are read in many turns of the event loop, and no further once their reader has left", async () => {
  const clock = new ManualClock(1_700_000_000_000);
  const journal = new Journal(clock);
  for (let number = 0; number < 100; number++) {
    const attributes = { label: "x".repeat(60_000) };
    journal.append({ type: "container", action: "create", actorId: String(number), attributes }, []);
  }
  let turns = 0;
  const left = new AbortController();
  const other = (): void => {
    turns += 1;
    if (!left.signal.aborted) {
      setImmediate(other);
    }
  };
  other();
  const wanted = { sinceNs: 0n, untilNs: undefined, wants: () => true };
  let read = 0;
  for await (const _event of subscribe(journal, clock, wanted, left.signal)) {
    read += 1;
    if (read === 80) {
      assert.ok(turns > 15, `${turns} turns`);
      left.abort();
    }
  }
  assert.equal(read, 80);
});

test("events that nobody follows are kept by the journal alone", () => {
  const journal = new Journal(new ManualClock());
  const announce = (): void =>
    journal.announce(journal.append({ type: "image", action: "pull", actorId: "one" }, []));
  announce();
  assert.equal(journal.announced.all.length, 0);
  const stopListening = journal.listen(() => {});
  announce();
  assert.equal(journal.announced.all.length, 1);
  stopListening();
  assert.deepEqual([journal.announced.all.length, journal.past().length], [0, 2]);
});
