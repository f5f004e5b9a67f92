/** The log of a container for clouds with one stream per task and one event per line. */
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

/** Access to a cloud's streams of events. A missing stream has no events. */
export interface LogStreams {
  /** The streams of a container's tasks, oldest first. */
  streamsOf(containerId: string): readonly string[];
  /** Reads a stream from its beginning, or from a time on. */
  forward(stream: string, fromNs: bigint | undefined, signal: AbortSignal): AsyncIterable<LogEvent>;
  /** Reads a stream from its end, newest first, up to a number of pages. */
  backward(stream: string, mostPages: number, signal: AbortSignal): AsyncIterable<LogEvent>;
}

/** An agent writes the end of a run after its output, followed only by a few lines of its own. */
const mostPagesBack = 5;
/** Maximum bytes of last lines held in memory; larger ones are reread. */
const mostHeldBytes = 8 * 1024 * 1024;
/** Approximate overhead of an event in bytes. */
const eventBytes = 200;

/** Reads for users at a time; looks for ends of runs, which share the cloud's rate, are not limited. */
export const mostReaders = 8;

/**
 * A log made of streams. Reading throws the streams' errors.
 *
 * @param turns those of users' reads
 */
export function streamLog(unlimited: LogStreams, turns = new Limiter(mostReaders)): CloudLog {
  const streams = inTurns(unlimited, turns);
  return {
    isKept: true,
    async *lines(containerId, { tail, sinceNs, beforeLastTask = false }: CloudLogRange, signal) {
      const all = streams.streamsOf(containerId);
      const wanted = beforeLastTask ? all.slice(0, -1) : all;
      if (tail !== undefined) {
        const events = await lastEvents(streams, wanted, tail, signal);
        const pace = new Pace(signal);
        yield* lastLines(() => pace.each(piecesOf(events())), tail);
        return;
      }
      for (const stream of wanted) {
        yield* piecesOf(outputOf(streams.forward(stream, sinceNs, signal)));
      }
    },
    async *agentLines(containerId, signal) {
      const stream = streams.streamsOf(containerId).at(-1);
      if (stream === undefined) {
        return;
      }
      for await (const { message } of unlimited.backward(stream, mostPagesBack, signal)) {
        const line = agentLine(message);
        if (line !== undefined) {
          yield line;
        }
      }
    },
  };
}

/** The streams, which wait for a turn before each event: the next one may need a call to the cloud. */
function inTurns(streams: LogStreams, turns: Limiter): LogStreams {
  const limited = (events: AsyncIterable<LogEvent>, signal: AbortSignal): AsyncIterable<LogEvent> => ({
    [Symbol.asyncIterator]() {
      const iterator = events[Symbol.asyncIterator]();
      return {
        async next() {
          using _turn = await turns.acquire("", signal);
          return await iterator.next();
        },
        return: async (value) => (await iterator.return?.(value)) ?? { done: true, value },
      };
    },
  });
  return {
    streamsOf: (containerId) => streams.streamsOf(containerId),
    forward: (stream, fromNs, signal) => limited(streams.forward(stream, fromNs, signal), signal),
    backward: (stream, mostPages, signal) => limited(streams.backward(stream, mostPages, signal), signal),
  };
}

/**
 * Finds, from the end, the events of the last lines of all streams together, each with the beginning of its line.
 *
 * @returns a rereadable source of them, with some earlier ones if they exceed the memory limit
 */
async function lastEvents(
  streams: LogStreams,
  wanted: readonly string[],
  count: bigint,
  signal: AbortSignal,
): Promise<() => AsyncIterable<LogEvent>> {
  const held: LogEvent[] = [];
  let heldBytes = 0;
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
    for await (const event of outputOf(streams.backward(stream, Number.POSITIVE_INFINITY, signal))) {
      heldBytes += eventBytes + event.message.length;
      if (heldBytes <= mostHeldBytes) {
        held.push(event);
      } else {
        held.length = 0;
      }
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
  if (heldBytes <= mostHeldBytes) {
    const events = held.reverse();
    return () => each(events);
  }
  return async function* () {
    for (const { stream, fromNs } of spans) {
      yield* outputOf(streams.forward(stream, fromNs, signal));
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

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
