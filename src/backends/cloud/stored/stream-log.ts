/** The log of a container for clouds with one stream per task and one event per line. */
import { ByteBudget } from "../../../common/byte-budget.ts";
import { WeightedMap } from "../../../common/weighted-map.ts";
import { Limiter } from "../../concurrency/limiter.ts";
import { lastLines } from "./log-lines.ts";
import { agentLine, untee } from "./markers.ts";
import { Pace } from "./pace.ts";
import type { CloudLog, CloudLogRange, LogPiece } from "../contract/cloud-log.ts";

/** A line, or a part of one, as written by the agent to its task's output. */
export interface LogEvent {
  readonly message: string;
  /** Unix time in nanoseconds, by the cloud's clock. */
  readonly timeNs: bigint;
}

/** A page of a stream, in the order of reading. */
export interface LogPage<Cursor> {
  readonly events: readonly LogEvent[];
  /** Leads to the next page; undefined if this is the last one. */
  readonly next: Cursor | undefined;
}

/** A position in a stream. A page may be read again by the same one. */
export interface LogPosition<Cursor> {
  readonly stream: string;
  /** Reads towards the beginning, newest first. */
  readonly backward: boolean;
  /** Unix time in nanoseconds to read from on, forward; undefined: from the beginning. */
  readonly fromNs: bigint | undefined;
  /** The position behind the last page; undefined for the first one. */
  readonly cursor: Cursor | undefined;
}

/** Access to a cloud's streams of events. A missing stream has no events. */
export interface LogStreams<Cursor> {
  /** The streams of a container's tasks, oldest first. */
  streamsOf(containerId: string): readonly string[];
  /** Reads a page. */
  page(position: LogPosition<Cursor>, signal: AbortSignal): Promise<LogPage<Cursor>>;
}

/** An agent writes the end of a run after its output, followed only by a few lines of its own. */
const mostPagesBack = 5;
/** Bytes of all readers' last lines in memory; what is larger than a reader's share is reread. */
const allHeldBytes = 32 * 1024 * 1024;
/** Bytes of the pages that readers have begun. */
const allPagesBytes = 32 * 1024 * 1024;
/** Bytes of events that a reader has without its page. */
const portionBytes = 64 * 1024;
/** Approximate overhead of an event in bytes. */
const eventBytes = 200;

/** Reads for users at a time; looks for ends of runs, which share the cloud's rate, are not limited. */
export const mostReaders = 8;

/** Access to streams for users' readers. */
interface Readers<Cursor> extends LogStreams<Cursor> {
  readonly pages: BegunPages<Cursor>;
}

/**
 * A log made of streams. Reading throws the streams' errors.
 *
 * @param turns those of users' reads
 */
export function streamLog<Cursor>(streams: LogStreams<Cursor>, turns = new Limiter(mostReaders)): CloudLog {
  const heldOfAll = new ByteBudget(allHeldBytes);
  const readers: Readers<Cursor> = {
    streamsOf: (containerId) => streams.streamsOf(containerId),
    async page(position, signal) {
      using _turn = await turns.acquire("", signal);
      return await streams.page(position, signal);
    },
    pages: new BegunPages(),
  };
  return {
    isKept: true,
    async *lines(containerId, { tail, sinceNs, beforeLastTask = false }: CloudLogRange, signal) {
      const all = streams.streamsOf(containerId);
      const wanted = beforeLastTask ? all.slice(0, -1) : all;
      if (tail !== undefined) {
        using held = new HeldEvents(heldOfAll);
        const events = await lastEvents(readers, wanted, { count: tail, held }, signal);
        const pace = new Pace(signal);
        yield* lastLines(() => pace.each(piecesOf(events())), tail);
        return;
      }
      for (const stream of wanted) {
        yield* piecesOf(outputOf(eventsFrom(readers, stream, sinceNs, signal)));
      }
    },
    async *agentLines(containerId, signal) {
      const stream = streams.streamsOf(containerId).at(-1);
      if (stream === undefined) {
        return;
      }
      for await (const { message } of eventsBack(streams, stream, mostPagesBack, signal)) {
        const line = agentLine(message);
        if (line !== undefined) {
          yield line;
        }
      }
    },
  };
}

/**
 * Pages from which readers have taken a part. Those that are read on from least recently go for new ones: a reader who
 * does not go on holds a portion only, and reads its page again when it does.
 */
class BegunPages<Cursor> {
  readonly #pages = new WeightedMap<object, LogPage<Cursor>>(allPagesBytes);

  /** The page of a reader, if it is still there. */
  take(reader: object): LogPage<Cursor> | undefined {
    const page = this.#pages.get(reader);
    this.#pages.delete(reader);
    return page;
  }

  put(reader: object, page: LogPage<Cursor>): void {
    const bytes = page.events.reduce((sum, event) => sum + sizeOf(event), 0);
    this.#pages.set(reader, Math.min(bytes, allPagesBytes), page);
  }
}

/** A position within a page. */
interface Place<Cursor> extends LogPosition<Cursor> {
  /** Number of the page's events before it. */
  readonly at: number;
}

/** A stream's events from its beginning, or from a time on. */
async function* eventsFrom<Cursor>(
  readers: Readers<Cursor>,
  stream: string,
  fromNs: bigint | undefined,
  signal: AbortSignal,
): AsyncGenerator<LogEvent> {
  const reader = {};
  let place: Place<Cursor> | undefined = { stream, backward: false, fromNs, cursor: undefined, at: 0 };
  try {
    while (place !== undefined) {
      const { events, next }: Portion<Cursor> = await portionFrom(readers, reader, place, signal);
      yield* events;
      place = next;
    }
  } finally {
    readers.pages.take(reader);
  }
}

/** The next events of a reader. */
interface Portion<Cursor> {
  readonly events: readonly LogEvent[];
  /** The place after them; undefined: the end. */
  readonly next: Place<Cursor> | undefined;
}

async function portionFrom<Cursor>(
  readers: Readers<Cursor>,
  reader: object,
  place: Place<Cursor>,
  signal: AbortSignal,
): Promise<Portion<Cursor>> {
  const page = readers.pages.take(reader) ?? (await readers.page(place, signal));
  let end = place.at;
  for (let bytes = 0; end < page.events.length && bytes < portionBytes; end++) {
    bytes += sizeOf(page.events[end] as LogEvent);
  }
  const events = page.events.slice(place.at, end);
  if (end < page.events.length) {
    readers.pages.put(reader, page);
    return { events, next: { ...place, at: end } };
  }
  return { events, next: page.next === undefined ? undefined : { ...place, cursor: page.next, at: 0 } };
}

/** A stream's events from its end, newest first, up to a number of pages with events; their reader goes on without a pause. */
async function* eventsBack<Cursor>(
  streams: Pick<LogStreams<Cursor>, "page">,
  stream: string,
  mostPages: number,
  signal: AbortSignal,
): AsyncGenerator<LogEvent> {
  let cursor: Cursor | undefined;
  for (let pages = 0; pages < mostPages; ) {
    const { events, next } = await streams.page(
      { stream, backward: true, fromNs: undefined, cursor },
      signal,
    );
    yield* events;
    if (next === undefined) {
      return;
    }
    pages += events.length > 0 ? 1 : 0;
    cursor = next;
  }
}

function sizeOf({ message }: LogEvent): number {
  return eventBytes + message.length;
}

/** The last events of one reader, newest first, as long as there is room for them. */
class HeldEvents implements Disposable {
  readonly #room: ByteBudget;
  #events: LogEvent[] | undefined = [];
  #bytes = 0;

  constructor(room: ByteBudget) {
    this.#room = room;
  }

  add(event: LogEvent): void {
    if (this.#events === undefined) {
      return;
    }
    const bytes = sizeOf(event);
    this.#bytes += bytes;
    this.#room.take(bytes);
    this.#events.push(event);
    if (this.#bytes > this.#room.share(0, allHeldBytes)) {
      this.#drop();
    }
  }

  /** The events, oldest first; undefined if there was no room for all. */
  oldestFirst(): readonly LogEvent[] | undefined {
    return this.#events?.toReversed();
  }

  [Symbol.dispose](): void {
    this.#drop();
  }

  #drop(): void {
    this.#room.give(this.#bytes);
    this.#bytes = 0;
    this.#events = undefined;
  }
}

/**
 * Finds, from the end, the events of the last lines of all streams together, each with the beginning of its line.
 *
 * @returns a rereadable source of them, with some earlier ones if they exceed the memory limit
 */
async function lastEvents<Cursor>(
  readers: Readers<Cursor>,
  wanted: readonly string[],
  { count, held }: { readonly count: bigint; readonly held: HeldEvents },
  signal: AbortSignal,
): Promise<() => AsyncIterable<LogEvent>> {
  let left = count;
  /** The inspected streams, oldest first. */
  const spans: { readonly stream: string; fromNs: bigint }[] = [];
  for (const stream of wanted.toReversed()) {
    if (left <= 0n) {
      break;
    }
    const span = { stream, fromNs: 0n };
    spans.unshift(span);
    /** Streams whose earliest found line begins before the found events. */
    const unbegun = new Set<LogPiece["stream"]>();
    for await (const event of outputOf(eventsBack(readers, stream, Number.POSITIVE_INFINITY, signal))) {
      held.add(event);
      span.fromNs = event.timeNs;
      const { stream: output, begins } = untee(event.message);
      if (begins) {
        left -= 1n;
        unbegun.delete(output);
      } else {
        unbegun.add(output);
      }
      if (left <= 0n && unbegun.size === 0) {
        break;
      }
    }
  }
  const events = held.oldestFirst();
  return async function* () {
    if (events !== undefined) {
      yield* events;
      return;
    }
    for (const { stream, fromNs } of spans) {
      yield* outputOf(eventsFrom(readers, stream, fromNs, signal));
    }
  };
}

/** Excludes the agent's own lines. */
async function* outputOf(events: AsyncIterable<LogEvent>): AsyncGenerator<LogEvent> {
  for await (const event of events) {
    if (agentLine(event.message) === undefined) {
      yield event;
    }
  }
}

/** A split line has the time of its beginning. */
async function* piecesOf(events: AsyncIterable<LogEvent>): AsyncGenerator<LogPiece> {
  const begun = new Map<LogPiece["stream"], bigint>();
  for await (const { message, timeNs: ownNs } of events) {
    const line = untee(message);
    const timeNs = line.begins ? ownNs : (begun.get(line.stream) ?? ownNs);
    begun.set(line.stream, timeNs);
    yield { ...line, timeNs };
  }
}
