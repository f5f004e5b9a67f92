/** Past events of a daemon. */
import assert from "node:assert/strict";

import type { Daemon } from "./daemon.ts";
import { callApi } from "./call-api.ts";

/** One line of `/events`. */
export interface ToldEvent {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly scope: string;
  /** Unix seconds. */
  readonly time: number;
  readonly timeNano: number;
}

/** A filter as clients write it. */
export type EventFilters = Readonly<Record<string, readonly string[]>>;

/** Everything that has happened so far and passes the filters, oldest first. */
export async function pastEvents(daemon: Daemon, filters: EventFilters = {}): Promise<ToldEvent[]> {
  const query = new URLSearchParams({
    since: "0",
    // Events have finer times than our clock, which cuts off what is less than a millisecond.
    until: String((Date.now() + 1) / 1000),
    filters: JSON.stringify(filters),
  });
  const answer = await callApi(daemon.socket, "GET", `/v1.51/events?${query}`);
  assert.equal(answer.status, 200, answer.text);
  return answer.text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as ToldEvent);
}
