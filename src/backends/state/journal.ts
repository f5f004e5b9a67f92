/** The events of the past, the newest of them kept over restarts, and those who listen for new ones. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import type { Clock } from "../../common/clock.ts";
import { type Event, EventSchema } from "../../gen/sockerless/backend/v1/events_pb.ts";
import type { Operation } from "./database.ts";
import { eventKey } from "./keys.ts";

/** Something that happened, before the journal gives it its time. */
export interface NewEvent {
  readonly type: "container" | "image" | "network" | "volume" | "daemon";
  readonly action: string;
  readonly actorId: string;
  readonly attributes?: Readonly<Record<string, string>>;
  /** The exit code of a container that is removed; clients are not told. */
  readonly exitCode?: number;
  /** The error that a container's exit or removal is told with; clients of events are not told. */
  readonly error?: string;
  /** When it happened, where that is known better than "now"; nanoseconds since the epoch. */
  readonly timeUnixNs?: bigint;
}

/** The journal as readers see it. */
export interface EventJournal {
  /** The events that are kept, oldest first. */
  past(): readonly Event[];
  /** Calls the listener with every event once it is durable, in order. Answers the function that ends it. */
  listen(listener: (event: Event) => void): () => void;
  readonly listeners: number;
}

/** How many events are kept. */
const journalLimit = 4096;

/** The journal; the state's commits append to it. */
export class Journal implements EventJournal {
  #events: Event[] = [];
  #lastNs = 0n;
  readonly #listeners = new Set<(event: Event) => void>();
  readonly #clock: Clock;
  readonly #limit: number;

  constructor(clock: Clock, limit = journalLimit) {
    this.#clock = clock;
    this.#limit = limit;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  past(): readonly Event[] {
    return this.#events;
  }

  listen(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes in an event as read from the database; events come in the order of their keys. */
  load(value: Uint8Array): void {
    const event = fromBinary(EventSchema, value);
    this.#events.push(event);
    this.#lastNs = event.timeUnixNs;
  }

  /**
   * Gives an event its time: its own, or now, but always later than the event before: times are unique and increase, so
   * `--since` with the time of an event misses none.
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
    this.#events.push(appended);
    operations.push({
      type: "put",
      key: eventKey(appended.timeUnixNs),
      value: toBinary(EventSchema, appended),
    });
    this.#dropOldest(operations);
    return appended;
  }

  /** Takes an event back that nobody was told of. @returns the operation that removes it */
  retract(event: Event): Operation {
    const place = this.#events.lastIndexOf(event);
    if (place >= 0) {
      this.#events.splice(place, 1);
    }
    return { type: "del", key: eventKey(event.timeUnixNs) };
  }

  /** Tells the listeners. A listener must not throw. */
  announce(event: Event): void {
    for (const listener of this.#listeners) {
      listener(event);
    }
  }

  /** An eighth at a time, so that not every event moves the whole list. */
  #dropOldest(operations: Operation[]): void {
    if (this.#events.length <= this.#limit) {
      return;
    }
    const dropped = this.#events.splice(0, Math.ceil(this.#limit / 8));
    for (const { timeUnixNs } of dropped) {
      operations.push({ type: "del", key: eventKey(timeUnixNs) });
    }
  }
}
