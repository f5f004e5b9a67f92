import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { type EventPage, eventPage } from "./event-pages.ts";
import type { StoredEvent } from "./state.ts";

/** Events in the order of time, several at one time too, and some of them large. */
const anyEvents: fc.Arbitrary<StoredEvent[]> = fc
  .array(fc.record({ after: fc.nat(2), length: fc.oneof(fc.nat(20), fc.constant(400_000)) }), {
    maxLength: 30,
  })
  .map((gaps) => {
    let timestamp = 1;
    return gaps.map(({ after, length }, sequence) => {
      timestamp += after;
      return {
        timestamp,
        message: "x".repeat(length),
        ingestionTime: 0,
        visibleAt: 0,
        sequence: sequence + 1,
      };
    });
  });

/** Follows the tokens of one direction until one is answered by itself. */
function follow(
  events: readonly StoredEvent[],
  direction: "nextForwardToken" | "nextBackwardToken",
  request: { readonly limit: number },
): EventPage[] {
  const startFromHead = direction === "nextForwardToken";
  const pages: EventPage[] = [];
  let token: string | undefined;
  for (;;) {
    const page = eventPage(events, { ...request, startFromHead, ...(token === undefined ? {} : { token }) });
    assert.ok(page);
    pages.push(page);
    if (page[direction] === token) {
      return pages;
    }
    token = page[direction];
  }
}

test("following the tokens meets every event once, in either direction", () => {
  fc.assert(
    fc.property(anyEvents, fc.integer({ min: 1, max: 7 }), (events, limit) => {
      const forward = follow(events, "nextForwardToken", { limit });
      assert.deepEqual(
        forward.flatMap((page) => page.events),
        events,
      );
      const backward = follow(events, "nextBackwardToken", { limit });
      assert.deepEqual(
        backward.reverse().flatMap((page) => page.events),
        events,
      );
    }),
  );
});

test("no page has more events than asked for, and the way back leads to what was before", () => {
  fc.assert(
    fc.property(anyEvents, fc.integer({ min: 1, max: 7 }), (events, limit) => {
      const request = { limit };
      const pages = follow(events, "nextForwardToken", request);
      for (const page of pages) {
        assert.ok(page.events.length <= limit);
        const back = eventPage(events, { ...request, startFromHead: true, token: page.nextBackwardToken });
        const first = page.events[0];
        if (first !== undefined) {
          assert.deepEqual(back?.events.at(-1), events[events.indexOf(first) - 1]);
        }
      }
    }),
  );
});
