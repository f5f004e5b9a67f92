/** Past events, the newest of which survive restarts, and the listeners for new ones. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import type { Clock } from "../../common/clock.ts";
import { type Event, EventSchema } from "../../gen/sockerless/backend/v1/events_pb.ts";
import type { Operation } from "./database.ts";
import { eventKey, isEventKey } from "./keys.ts";
import { LatestEvents } from "./latest-events.ts";

/** An event before the journal assigns its time. */
export interface NewEvent {
  readonly type: "container" | "image" | "network" | "volume" | "daemon";
  readonly action: string;
  readonly actorId: string;
  readonly attributes?: Readonly<Record<string, string>>;
  /** Exit code of a removed container; not sent to clients. */
  readonly exitCode?: number;
  /** Error reported with a container's exit or removal; not sent to clients of events. */
  readonly error?: string;
  /** Time of the event, if known more precisely than "now"; nanoseconds since the epoch. */
  readonly timeUnixNs?: bigint;
}

/** Number of events to keep. */
const journalLimit = 4096;

/**
 * Bytes of the events to keep, as `weightOf` counts them: an event has its container's labels, or a command of
 * megabytes.
 */
const journalWeight = 64 * 2 ** 20;

/** Most events dropped earlier that the database deletes with a new one. */
const deletionsPerEvent = 64;

/** The journal, filled by the state's commits. */
export class Journal {
  readonly #stored: LatestEvents;
  /**
   * The latest events announced to listeners, which followers read at their own pace: each has a place among them, so that what all
   * of them have yet to read is bounded together.
   */
  readonly announced: LatestEvents;
  /** Keys of dropped events that the database still has. */
  readonly #unwanted: string[] = [];
  #lastNs = 0n;
  readonly #listeners = new Set<(event: Event) => void>();
  readonly #clock: Clock;

  constructor(clock: Clock, limit = journalLimit) {
    this.#clock = clock;
    this.#stored = new LatestEvents(limit, journalWeight);
    this.announced = new LatestEvents(4 * limit, 2 * journalWeight);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  /** The stored events, oldest first. */
  past(): readonly Event[] {
    return this.#stored.all;
  }

  /** Calls the listener with every event once it is durable, in order. Returns a function that removes the listener. */
  listen(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) {
        this.announced.clear();
      }
    };
  }

  /** Adds an event read from the database; events arrive in the order of their keys. */
  load(value: Uint8Array): void {
    const event = fromBinary(EventSchema, value);
    this.#lastNs = event.timeUnixNs;
    this.#add(event);
  }

  /**
   * Assigns an event's time: its own or now, but always later than the previous event. Times are thus unique and
   * increasing, so that `--since` with an event's time misses none.
   */
  dated({ type, action, actorId, attributes, timeUnixNs, exitCode, error = "" }: NewEvent): Event {
    const wanted = timeUnixNs ?? this.#clock.nowNs();
    const earliest = this.#lastNs + 1n;
    this.#lastNs = wanted < earliest ? earliest : wanted;
    return create(EventSchema, {
      type,
      action,
      actorId,
      attributes: { ...attributes },
      timeUnixNs: this.#lastNs,
      error,
      ...(exitCode === undefined ? {} : { exitCode: BigInt(exitCode) }),
    });
  }

  /** Appends an event, {@link dated}. */
  append(event: NewEvent, operations: Operation[]): Event {
    const appended = this.dated(event);
    operations.push({
      type: "put",
      key: eventKey(appended.timeUnixNs),
      value: toBinary(EventSchema, appended),
    });
    this.#add(appended);
    for (const key of this.#unwanted.splice(0, deletionsPerEvent)) {
      operations.push({ type: "del", key });
    }
    return appended;
  }

  /**
   * Takes back events that no listener has received.
   *
   * @param operations those of {@link append}: what they delete is left to events to come
   * @returns the operations that remove the events
   */
  retract(events: readonly Event[], operations: readonly Pick<Operation, "type" | "key">[]): Operation[] {
    for (const event of events) {
      this.#stored.remove(event);
    }
    for (const { type, key } of operations) {
      if (type === "del" && isEventKey(key)) {
        this.#unwanted.push(key);
      }
    }
    return events.map(({ timeUnixNs }) => ({ type: "del", key: eventKey(timeUnixNs) }));
  }

  /** Calls the listeners, which must not throw. */
  announce(event: Event): void {
    if (this.#listeners.size > 0) {
      this.announced.add(event);
    }
    for (const listener of this.#listeners) {
      listener(event);
    }
  }

  #add(event: Event): void {
    for (const { timeUnixNs } of this.#stored.add(event)) {
      this.#unwanted.push(eventKey(timeUnixNs));
    }
  }
}

/** The journal, for readers. */
export type EventJournal = Pick<Journal, "past" | "listen" | "listeners"> & {
  readonly announced: Pick<LatestEvents, "all" | "dropped">;
};
