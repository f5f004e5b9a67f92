/** The log of a container where a cloud keeps one stream for each of its tasks, an event for each line. */
import { lastLines } from "./log-lines.ts";
import { agentLine, untee } from "./markers.ts";
import type { CloudLog, CloudLogRange, LogPiece } from "../contract/cloud-log.ts";

/** A line as the agent has written it to its task's output, or a part of one. */
export interface LogEvent {
  readonly message: string;
  /** Unix time in nanoseconds, by the cloud's clock. */
  readonly timeNs: bigint;
}

/** Streams of events, as a cloud is asked for them. A stream that does not exist has none. */
export interface LogStreams {
  /** The streams of a container's tasks, oldest first. */
  streamsOf(containerId: string): readonly string[];
  /** Reads a stream from its begin, or from a time on. */
  forward(stream: string, fromNs: bigint | undefined, signal: AbortSignal): AsyncIterable<LogEvent>;
  /** Reads a stream from its end, newest first, so many pages at most. */
  backward(stream: string, mostPages: number, signal: AbortSignal): AsyncIterable<LogEvent>;
}

/** An agent tells the end of a run behind its output: what follows are a few lines of its own. */
const mostPagesBack = 5;
/** The last lines of a log are held in memory up to this, and read again where they are more. */
const mostHeldBytes = 8 * 1024 * 1024;
/** An event without its message, about. */
const eventBytes = 200;

/** The log that streams make. Reading throws what the streams do. */
export function streamLog(streams: LogStreams): CloudLog {
  return {
    isKept: true,
    async *lines(containerId, { tail, sinceNs, beforeLastTask = false }: CloudLogRange, signal) {
      const all = streams.streamsOf(containerId);
      const wanted = beforeLastTask ? all.slice(0, -1) : all;
      if (tail !== undefined) {
        const events = await lastEvents(streams, wanted, tail, signal);
        yield* lastLines(() => piecesOf(events()), tail);
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
      for await (const { message } of streams.backward(stream, mostPagesBack, signal)) {
        const line = agentLine(message);
        if (line !== undefined) {
          yield line;
        }
      }
    },
  };
}

/**
 * Looks from the end for the events of the last lines of all streams together: none without the begin of its line.
 *
 * @returns reads them, and some before them where they are more than are held; again and again
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
  /** The streams as far as they were looked at, oldest first. */
  const spans: { readonly stream: string; fromNs: bigint }[] = [];
  for (const stream of wanted.toReversed()) {
    if (left <= 0n) {
      break;
    }
    const span = { stream, fromNs: 0n };
    spans.unshift(span);
    /** Streams of output whose last line that was found begins earlier. */
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

/** Leaves out the agent's own lines. */
async function* outputOf(events: AsyncIterable<LogEvent>): AsyncGenerator<LogEvent> {
  for await (const event of events) {
    if (agentLine(event.message) === undefined) {
      yield event;
    }
  }
}

/** A line that was cut has the time of its begin. */
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
