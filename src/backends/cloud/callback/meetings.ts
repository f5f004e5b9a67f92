/** Matches agents' connections with clients that want one, by container and key. */
import type { Duplex } from "node:stream";

import { forgetOldest } from "../../../common/forget-oldest.ts";
import { getOrInsert } from "../../../common/get-or-insert.ts";
import { onAbort } from "../../../common/on-abort.ts";
import type { Caller, Calling } from "./relay-messages.ts";

/** Maximum waiting connections of one agent: it offers one, and another while that is being taken. */
const maxOffers = 4;
/** Maximum waiting connections of agents without clients: of all without a token, as anyone can create a key. */
const maxUnwanted = 256;
/** And of one start's, whose token is its container's. */
const maxOfStart = 8;

/** Error for clients of a refused agent. */
export const agentRefused = new Error("the agent is refused");

/**
 * Priorities of an agent's clients: its backend and frontends, then agents of other containers. The latter may want
 * many connections at once, while the agent opens one at a time, so they yield.
 */
export type Wanting = "controls" | "peers";

/** An agent's connections and its waiting clients. */
interface Meeting {
  readonly caller: Caller;
  readonly offers: Set<Duplex>;
  /** Waiting clients, resolved with a connection or rejected. */
  readonly wants: Readonly<Record<Wanting, Set<(offer: Duplex | undefined) => void>>>;
  /** True once a client wants this agent, unless it was refused since. */
  isWanted: boolean;
  /** The container and start whose token it has shown; empty without one. */
  start: string;
  used: number;
}

/** Callbacks about agents. */
export interface MeetingListener {
  called(caller: Calling): void;
  left(caller: Caller): void;
}

/** Matches agents and clients. */
export class Meetings {
  readonly #meetings = new Map<string, Meeting>();
  readonly #listener: MeetingListener;
  readonly #refused = new Set<string>();

  constructor(listener: MeetingListener) {
    this.#listener = listener;
  }

  /** Adds an agent's connection until it closes. @returns why it is refused; undefined if accepted */
  offer(caller: Calling, connection: Duplex): string | undefined {
    if (this.#refused.has(keyOf(caller))) {
      return "its agent is another";
    }
    const meeting = this.#meetingOf(caller);
    meeting.start = caller.start === undefined ? "" : `${caller.containerId} ${caller.start}`;
    const [want] = wantsOf(meeting);
    if (want !== undefined) {
      this.#use(meeting, connection);
      want(connection);
      return undefined;
    }
    if (meeting.offers.size >= maxOffers) {
      return "connections enough of it wait";
    }
    meeting.offers.add(connection);
    connection.once("close", () => {
      meeting.offers.delete(connection);
      this.#forgetIdle(meeting);
    });
    this.#listener.called(caller);
    if (!meeting.isWanted) {
      this.#limitUnwanted(meeting.start);
    }
    return undefined;
  }

  /** Drops a waiting connection whose other end is gone, as without a reader it would not close by itself. */
  lose(caller: Caller, connection: Duplex): void {
    if (this.#meetings.get(keyOf(caller))?.offers.has(connection) === true) {
      connection.destroy();
    }
  }

  /**
   * Waits for a connection of an agent.
   *
   * @throws the signal's reason; {@link agentRefused}
   */
  async want(caller: Caller, signal: AbortSignal, who: Wanting): Promise<Duplex> {
    if (this.#refused.has(keyOf(caller))) {
      throw agentRefused;
    }
    const meeting = this.#meetingOf(caller);
    meeting.isWanted = true;
    const wants = meeting.wants[who];
    // The newest: an agent opens another connection if nothing came of those before.
    const offer = [...meeting.offers].at(-1);
    if (offer !== undefined) {
      meeting.offers.delete(offer);
      this.#use(meeting, offer);
      return offer;
    }
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
    const leave = (reason: unknown): void => {
      wants.delete(want);
      this.#forgetIdle(meeting);
      reject(reason);
    };
    const want = (found: Duplex | undefined): void => {
      if (found === undefined) {
        leave(agentRefused);
      } else {
        wants.delete(want);
        resolve(found);
      }
    };
    wants.add(want);
    using _leaving = onAbort(signal, () => leave(signal.reason));
    return await promise;
  }

  /** Refuses an agent with a wrong identity. */
  refuse(caller: Caller): void {
    const key = keyOf(caller);
    this.#refused.add(key);
    forgetOldest(this.#refused, maxUnwanted);
    const meeting = this.#meetings.get(key);
    for (const offer of meeting?.offers ?? []) {
      offer.destroy();
    }
    for (const want of meeting === undefined ? [] : wantsOf(meeting)) {
      want(undefined);
    }
  }

  #use(meeting: Meeting, connection: Duplex): void {
    meeting.used++;
    connection.once("close", () => {
      meeting.used--;
      this.#forgetIdle(meeting);
    });
  }

  #meetingOf(caller: Caller): Meeting {
    return getOrInsert(this.#meetings, keyOf(caller), () => ({
      caller,
      offers: new Set(),
      wants: { controls: new Set(), peers: new Set() },
      isWanted: false,
      start: "",
      used: 0,
    }));
  }

  #forgetIdle(meeting: Meeting): void {
    const key = keyOf(meeting.caller);
    const isIdle = meeting.offers.size + wantsOf(meeting).length + meeting.used === 0;
    if (isIdle && this.#meetings.get(key) === meeting) {
      this.#meetings.delete(key);
      this.#listener.left(meeting.caller);
    }
  }

  /** Closes the unwanted connections that have waited longest: of those without a token, or of one start's. */
  #limitUnwanted(start: string): void {
    const unwanted = [...this.#meetings.values()]
      .filter((each) => !each.isWanted && each.start === start)
      .flatMap(({ offers }) => [...offers]);
    const most = start === "" ? maxUnwanted : maxOfStart;
    for (const offer of unwanted.slice(0, Math.max(0, unwanted.length - most))) {
      offer.destroy();
    }
  }
}

/** In order of arrival. */
function wantsOf({ wants }: Meeting): readonly ((offer: Duplex | undefined) => void)[] {
  return [...wants.controls, ...wants.peers];
}

function keyOf({ containerId, pin }: Caller): string {
  return `${containerId} ${pin}`;
}
