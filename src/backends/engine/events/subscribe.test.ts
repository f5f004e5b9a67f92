import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { systemClock } from "../../../common/clock.ts";
import { EventSchema } from "../../../gen/sockerless/backend/v1/events_pb.ts";
import type { EventJournal } from "../../state/journal.ts";
import { subscribe } from "./subscribe.ts";

const past = Array.from({ length: 100 }, (_, index) =>
  create(EventSchema, { timeUnixNs: BigInt(index + 1), attributes: { label: "x".repeat(60_000) } }),
);
const journal: EventJournal = { past: () => past, listen: () => () => {}, listeners: 0 };

test("long past events are read in many turns of the event loop, and no further once their reader has left", async () => {
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
  for await (const _event of subscribe(journal, systemClock, wanted, left.signal)) {
    read += 1;
    if (read === 80) {
      assert.ok(turns > 15, `${turns} turns`);
      left.abort();
    }
  }
  assert.equal(read, 80);
});
