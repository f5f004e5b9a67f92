/** A bounded list of events. */
import type { Event } from "../../gen/sockerless/backend/v1/events_pb.ts";
import { weightOf } from "./weights.ts";

/** The latest of all events that were added. */
export class LatestEvents {
  #events: Event[] = [];
  readonly #limit: number;
  readonly #weightLimit: number;
  /** Sum of the events' {@link weightOf}. */
  #weight = 0;
  #dropped = 0;

  /**
   * @param limit number of events
   * @param weightLimit bytes of them, as {@link weightOf} counts
   */
  constructor(limit: number, weightLimit: number) {
    this.#limit = limit;
    this.#weightLimit = weightLimit;
  }

  /** The events, oldest first. A reader may keep the list: events are added to it, but a removal makes a new one. */
  get all(): readonly Event[] {
    return this.#events;
  }

  /** Number of events that were dropped so far. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Adds an event. @returns the dropped oldest ones: an eighth at a time, so that few events move the whole list */
  add(event: Event): readonly Event[] {
    this.#events.push(event);
    this.#weight += weightOf(event);
    let surplus = this.#events.length <= this.#limit ? 0 : Math.ceil(this.#limit / 8);
    if (this.#weight > this.#weightLimit) {
      let rest = this.#weight;
      // The newest one is kept, whatever its length.
      for (let at = 0; rest > (this.#weightLimit / 8) * 7 && at < this.#events.length - 1; at++) {
        rest -= weightOf(this.#events[at] ?? event);
        surplus = Math.max(surplus, at + 1);
      }
    }
    if (surplus === 0) {
      return [];
    }
    const dropped = this.#events.slice(0, surplus);
    this.#events = this.#events.slice(surplus);
    this.#dropped += surplus;
    for (const each of dropped) {
      this.#weight -= weightOf(each);
    }
    return dropped;
  }

  /** Drops all. */
  clear(): void {
    this.#dropped += this.#events.length;
    this.#events = [];
    this.#weight = 0;
  }

  /** Removes an event, if it is among them. */
  remove(event: Event): void {
    const place = this.#events.lastIndexOf(event);
    if (place >= 0) {
      this.#events = this.#events.toSpliced(place, 1);
      this.#weight -= weightOf(event);
    }
  }
}
