/** Past and live events as one stream without gaps or duplicates. */
import type { Clock } from "../../../common/clock.ts";
import { unavailable } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";
import type { Event } from "../../../gen/sockerless/backend/v1/events_pb.ts";
import { Turns } from "../../../common/turns.ts";
import type { EventJournal } from "../../state/journal.ts";
import { weightOf } from "../../state/weights.ts";

/**
 * Limits event deliveries per turn of the event loop, over all subscribers: one event to a thousand subscribers would
 * otherwise delay all other calls.
 */
const deliveries = new Turns(8);

/** Limits how many events are matched per turn, also over all. Most of the past are not delivered. */
const looks = new Turns(64);

/** Weight of an event that counts as one delivery. */
const weightPerDelivery = 4_096;

/** A subscriber's request; times in nanoseconds since the epoch, both inclusive. */
export interface Subscription {
  /** Undefined for live events only or, with an end, all past ones too. */
  readonly sinceNs: bigint | undefined;
  /** Undefined for no end. */
  readonly untilNs: bigint | undefined;
  readonly wants: (event: Event) => boolean;
}

/**
 * Returns the events of a subscription, which begins at once, not at the first read.
 *
 * @param signal ends the stream normally
 * @throws unavailable, in the stream: the reader is too slow
 */
export function subscribe(
  journal: EventJournal,
  clock: Clock,
  subscription: Subscription,
  signal: AbortSignal,
): AsyncIterable<Event> {
  const { sinceNs, untilNs, wants } = subscription;
  const { announced } = journal;
  let wake = Promise.withResolvers<void>();
  const until = new AbortController();
  const isOver = (timeNs: bigint): boolean => untilNs !== undefined && timeNs > untilNs;
  const isLiveOnly = sinceNs === undefined && untilNs === undefined;
  const newestNs = journal.past().at(-1)?.timeUnixNs ?? -1n;
  // All followers share the list: a copy for each would take 32 KiB.
  let past = isLiveOnly ? [] : journal.past();
  let pastPlace = past.findLastIndex(({ timeUnixNs }) => timeUnixNs < (sinceNs ?? 0n)) + 1;
  let place = announced.dropped + announced.all.length;
  const isOverrun = (): boolean => place < announced.dropped;
  if (isOver(newestNs)) {
    until.abort();
  }
  const next = (): Event | undefined => {
    let event = past[pastPlace++];
    if (event === undefined || event.timeUnixNs > newestNs) {
      past = [];
      event = undefined;
    }
    while (event === undefined && place < announced.dropped + announced.all.length) {
      const live = announced.all[place - announced.dropped];
      place += 1;
      event = live !== undefined && live.timeUnixNs > newestNs ? live : undefined; // Else among the past ones.
    }
    return event;
  };
  const stopListening = journal.listen(({ timeUnixNs }) => {
    if (isOver(timeUnixNs)) {
      until.abort();
    }
    if (isOverrun()) {
      // A slow reader gets the error with its next read.
      stopListening();
      past = [];
    }
    wake.resolve();
  });
  const ended = AbortSignal.any([signal, until.signal]);
  const waking = onAbort(ended, () => wake.resolve());
  const leaving = onAbort(signal, stopListening); // Needed even if nobody reads the stream.
  const timer = untilNs === undefined ? Promise.resolve() : reach(clock, untilNs, until, ended);

  async function* read(): AsyncGenerator<Event> {
    try {
      for (;;) {
        if (isOverrun()) {
          throw unavailable("the subscriber is too slow: events were dropped");
        }
        const event = next();
        if (event !== undefined && !isOver(event.timeUnixNs)) {
          await looks.next();
          const isWanted = wants(event);
          for (let weight = isWanted ? weightOf(event) : -1; weight >= 0; weight -= weightPerDelivery) {
            await deliveries.next();
          }
          if (signal.aborted) {
            return;
          }
          if (isWanted) {
            yield event;
          }
          continue;
        }
        if (ended.aborted) {
          return;
        }
        await wake.promise;
        wake = Promise.withResolvers<void>();
      }
    } finally {
      stopListening();
      leaving[Symbol.dispose]();
      waking[Symbol.dispose]();
      until.abort();
      await timer;
    }
  }
  return read();
}

async function reach(
  clock: Clock,
  untilNs: bigint,
  until: AbortController,
  ended: AbortSignal,
): Promise<void> {
  try {
    const ms = Number((untilNs - clock.nowNs()) / 1_000_000n) + 1;
    if (ms > 0) {
      await clock.sleep(ms, ended);
    }
    until.abort();
  } catch {
    // The stream has already ended.
  }
}
