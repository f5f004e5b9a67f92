/**
 * The paging of `GetLogEvents`. A page holds at most 1 MiB and 10,000 events, oldest first. The forward token leads to
 * events newer than the page, the backward token to older ones; a page at the end answers with the very token that it
 * was asked with.
 */
import type { StoredEvent } from "./state.ts";

/** Bytes of a page, where each event counts its message and 26 more. */
const maxPageBytes = 1024 ** 2;
const bytesPerEvent = 26;
const maxPageEvents = 10_000;

/** A place between two events of a stream: all events before it are at or below. */
interface Position {
  readonly timestamp: number;
  readonly sequence: number;
}

/** A token, read. */
export interface PageToken {
  readonly direction: "forward" | "backward";
  readonly position: Position;
}

/** A page and where it leads. */
export interface EventPage {
  readonly events: StoredEvent[];
  readonly nextForwardToken: string;
  readonly nextBackwardToken: string;
}

/** The request for a page. */
export interface PageRequest {
  /** Token of an earlier page; absent: the page begins at the head or ends at the tail. */
  readonly token?: string;
  readonly limit?: number;
  readonly startFromHead: boolean;
}

const beforeAll: Position = { timestamp: 0, sequence: 0 };

/** A page of a stream's readable events; undefined for a token that is none. */
export function eventPage(all: readonly StoredEvent[], request: PageRequest): EventPage | undefined {
  const token = request.token === undefined ? firstToken(all, request) : readToken(request.token);
  if (token === undefined) {
    return undefined;
  }
  const { direction, position } = token;
  const rest =
    direction === "forward"
      ? all.filter((event) => compare(event, position) > 0)
      : all.filter((event) => compare(event, position) <= 0);
  if (rest.length === 0) {
    const same = request.token ?? writeToken(token);
    return direction === "forward"
      ? { events: [], nextForwardToken: same, nextBackwardToken: writeToken(turned(token)) }
      : { events: [], nextForwardToken: writeToken(turned(token)), nextBackwardToken: same };
  }
  const events = direction === "forward" ? fill(rest, request) : fill(rest.toReversed(), request).reverse();
  const before = all.findLast((event) => compare(event, events[0] ?? position) < 0) ?? beforeAll;
  return {
    events,
    nextForwardToken: writeToken({ direction: "forward", position: events.at(-1) ?? position }),
    nextBackwardToken: writeToken({ direction: "backward", position: before }),
  };
}

/** Whether a token leads to newer events. */
export function isForward(token: string): boolean {
  return token.startsWith("f/");
}

function firstToken(all: readonly StoredEvent[], { startFromHead }: PageRequest): PageToken {
  return startFromHead
    ? { direction: "forward", position: beforeAll }
    : { direction: "backward", position: all.at(-1) ?? beforeAll };
}

function turned({ direction, position }: PageToken): PageToken {
  return { direction: direction === "forward" ? "backward" : "forward", position };
}

/** The first events that fit into a page; at least one. */
function fill(events: readonly StoredEvent[], { limit = maxPageEvents }: PageRequest): StoredEvent[] {
  const page: StoredEvent[] = [];
  let bytes = 0;
  for (const event of events) {
    bytes += Buffer.byteLength(event.message) + bytesPerEvent;
    if (page.length > 0 && (bytes > maxPageBytes || page.length >= limit)) {
      break;
    }
    page.push(event);
  }
  return page;
}

function compare(one: Position, other: Position): number {
  return one.timestamp - other.timestamp || one.sequence - other.sequence;
}

function writeToken({ direction, position }: PageToken): string {
  const digits = `${position.timestamp}`.padStart(20, "0") + `${position.sequence}`.padStart(20, "0");
  return `${direction.charAt(0)}/${digits}`;
}

function readToken(text: string): PageToken | undefined {
  const [, letter, timestamp, sequence] = /^([fb])\/(\d{20})(\d{20})$/.exec(text) ?? [];
  return letter === undefined
    ? undefined
    : {
        direction: letter === "f" ? "forward" : "backward",
        position: { timestamp: Number(timestamp), sequence: Number(sequence) },
      };
}
