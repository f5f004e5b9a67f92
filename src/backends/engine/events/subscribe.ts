/** Past and live events as one stream without gaps or duplicates. */
import type { Clock } from "../../../common/clock.ts";
import { unavailable } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";
import type { Event } from "../../../gen/sockerless/backend/v1/events_pb.ts";
import { Turns } from "../../../common/turns.ts";
import { type EventJournal, journalWeight } from "../../state/journal.ts";
import { weightOf } from "../../state/weights.ts";

/**
 * Limits event deliveries per turn of the event loop, over all subscribers: one event to a thousand subscribers would
 * otherwise delay all other calls.
 */
const deliveries = new Turns(64);

/** Weight of an event that counts as one delivery. */
const weightPerDelivery = 4_096;

/** Maximum backlog of events, unwanted ones included; a subscriber beyond it, or twice the journal's weight, is disconnected. */
const longestBacklog = 16_384;

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
  const queue: Event[] = [];
  let queuedWeight = 0;
  let wake = Promise.withResolvers<void>();
  const until = new AbortController();
  let overrun: boolean = false;
  let newest = -1n;
  const add = (event: Event): void => {
    if (event.timeUnixNs <= newest) {
      return; // Already among the past events.
    }
    newest = event.timeUnixNs;
    if (untilNs !== undefined && event.timeUnixNs > untilNs) {
      until.abort();
    } else {
      queue.push(event);
      queuedWeight += weightOf(event);
      overrun = queue.length > longestBacklog || queuedWeight > 2 * journalWeight;
      if (overrun) {
        // A slow reader gets the error with its next read.
        stopListening();
        queue.length = 0;
      }
    }
    wake.resolve();
  };
  const stopListening = journal.listen(add);
  const past = journal.past();
  if (sinceNs === undefined && untilNs === undefined) {
    newest = past.at(-1)?.timeUnixNs ?? -1n;
  } else {
    for (const event of past) {
      if (event.timeUnixNs >= (sinceNs ?? 0n)) {
        add(event);
      }
    }
  }
  const ended = AbortSignal.any([signal, until.signal]);
  const waking = onAbort(ended, () => wake.resolve());
  const leaving = onAbort(signal, stopListening); // Needed even if nobody reads the stream.
  const timer = untilNs === undefined ? Promise.resolve() : reach(clock, untilNs, until, ended);

  async function* read(): AsyncGenerator<Event> {
    try {
      for (;;) {
        if (overrun) {
          throw unavailable("the subscriber is too slow: events were dropped");
        }
        queuedWeight = 0;
        for (const event of queue.splice(0)) {
          for (let weight = weightOf(event); weight >= 0; weight -= weightPerDelivery) {
            await deliveries.next();
          }
          if (signal.aborted) {
            return;
          }
          if (wants(event)) {
            yield event;
          }
        }
        if (queue.length > 0) {
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
    // Timers are limited to 2^31 ms.
    for (let left = ms; left > 0; left -= 1e9) {
      await clock.sleep(Math.min(left, 1e9), ended);
    }
    until.abort();
  } catch {
    // The stream has already ended.
  }
}
