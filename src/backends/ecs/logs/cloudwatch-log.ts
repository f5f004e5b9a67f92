/** The log of a container in CloudWatch: one stream for each of its tasks, an event for each line. */
import {
  type CloudWatchLogsClient,
  GetLogEventsCommand,
  type GetLogEventsCommandInput,
  type GetLogEventsCommandOutput,
  type OutputLogEvent,
} from "@aws-sdk/client-cloudwatch-logs";

import { lastLines } from "../../common/cloud/stored/log-lines.ts";
import type { LogPiece } from "../../common/cloud/stored/log-pieces.ts";
import type { CloudLog, CloudLogRange } from "../../common/cloud/stored/stored-service.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import { agentLine, untee } from "../../common/cloud/stored/markers.ts";

/** Settings of {@link cloudWatchLog}, and what it calls. */
export interface CloudWatchLogOptions {
  readonly logs: AwsService<CloudWatchLogsClient>;
  readonly logGroup: string;
  /** The streams of a container's tasks, oldest first. */
  readonly streamsOf: (containerId: string) => readonly string[];
}

const nsPerMs = 1_000_000n;
/** An agent tells the end of a run behind its output: what follows are a few lines of its own. */
const mostPagesBack = 5;
/** The last lines of a log are held in memory up to this, and read again where they are more. */
const mostHeldBytes = 8 * 1024 * 1024;
/** An event without its message, about. */
const eventBytes = 200;

/** The log of a backend's containers. Reading throws AwsError. */
export function cloudWatchLog(options: CloudWatchLogOptions): CloudLog {
  return {
    async *lines(containerId, { tail, sinceNs, beforeLastTask = false }: CloudLogRange, signal) {
      const all = options.streamsOf(containerId);
      const streams = beforeLastTask ? all.slice(0, -1) : all;
      if (tail !== undefined) {
        const events = await lastEvents(options, streams, tail, signal);
        yield* lastLines(() => piecesOf(events()), tail);
        return;
      }
      const startTime = sinceNs === undefined ? undefined : Number(sinceNs / nsPerMs);
      for (const logStreamName of streams) {
        yield* piecesOf(eventsForward(options, { logStreamName, startTime }, signal));
      }
    },
    async *agentLines(containerId, signal) {
      const logStreamName = options.streamsOf(containerId).at(-1);
      if (logStreamName === undefined) {
        return;
      }
      for await (const { message = "" } of eventsBackward(options, logStreamName, mostPagesBack, signal)) {
        const line = agentLine(message);
        if (line !== undefined) {
          yield line;
        }
      }
    },
  };
}

/** Reads the output from the head until the same token comes twice: pages may be empty before the end. */
async function* eventsForward(
  options: CloudWatchLogOptions,
  input: Pick<GetLogEventsCommandInput, "logStreamName" | "startTime">,
  signal: AbortSignal,
): AsyncGenerator<OutputLogEvent> {
  let nextToken: string | undefined;
  for (;;) {
    const page = await readPage(options, { ...input, startFromHead: true, nextToken }, signal);
    yield* page?.events?.filter(isOutput) ?? [];
    if (page?.nextForwardToken === undefined || page.nextForwardToken === nextToken) {
      return;
    }
    nextToken = page.nextForwardToken;
  }
}

/** Reads output and the agent's own lines from the end of a stream, newest first. */
async function* eventsBackward(
  options: CloudWatchLogOptions,
  logStreamName: string,
  mostPages: number,
  signal: AbortSignal,
): AsyncGenerator<OutputLogEvent> {
  let nextToken: string | undefined;
  for (let pages = 0; pages < mostPages; pages++) {
    const page = await readPage(options, { logStreamName, startFromHead: false, nextToken }, signal);
    yield* page?.events?.toReversed() ?? [];
    if (page?.nextBackwardToken === undefined || page.nextBackwardToken === nextToken) {
      return;
    }
    nextToken = page.nextBackwardToken;
  }
}

/**
 * Looks from the end for the events of the last lines of all streams together: none without the begin of its line.
 *
 * @returns reads them, and some before them where they are more than are held; again and again
 */
async function lastEvents(
  options: CloudWatchLogOptions,
  streams: readonly string[],
  count: bigint,
  signal: AbortSignal,
): Promise<() => AsyncIterable<OutputLogEvent>> {
  const held: OutputLogEvent[] = [];
  let heldBytes = 0;
  let left = count;
  /** The streams as far as they were looked at, oldest first. */
  const spans: { readonly logStreamName: string; startTime: number }[] = [];
  for (const logStreamName of streams.toReversed()) {
    if (left <= 0n) {
      break;
    }
    const span = { logStreamName, startTime: 0 };
    spans.unshift(span);
    /** Streams of output whose last line that was found begins earlier. */
    const unbegun = new Set<LogPiece["stream"]>();
    for await (const event of eventsBackward(options, logStreamName, Number.POSITIVE_INFINITY, signal)) {
      if (!isOutput(event)) {
        continue;
      }
      const { message = "", timestamp = 0 } = event;
      heldBytes += eventBytes + message.length;
      if (heldBytes <= mostHeldBytes) {
        held.push(event);
      } else {
        held.length = 0;
      }
      span.startTime = timestamp;
      const { stream, begins } = untee(message);
      if (begins) {
        left -= 1n;
        unbegun.delete(stream);
      } else {
        unbegun.add(stream);
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
    for (const span of spans) {
      yield* eventsForward(options, span, signal);
    }
  };
}

function isOutput({ message = "" }: OutputLogEvent): boolean {
  return agentLine(message) === undefined;
}

/** One page; undefined: the group or the stream does not exist, which is a log that nobody wrote to. */
async function readPage(
  { logs, logGroup }: CloudWatchLogOptions,
  input: Omit<GetLogEventsCommandInput, "logGroupName">,
  abortSignal: AbortSignal,
): Promise<GetLogEventsCommandOutput | undefined> {
  try {
    return await logs.send(new GetLogEventsCommand({ logGroupName: logGroup, ...input }), { abortSignal });
  } catch (error) {
    if (isAwsError(error, "ResourceNotFoundException")) {
      return undefined;
    }
    throw error;
  }
}

/** A line that was cut has the time of its begin. */
async function* piecesOf(events: AsyncIterable<OutputLogEvent>): AsyncGenerator<LogPiece> {
  const begun = new Map<LogPiece["stream"], bigint>();
  for await (const { message = "", timestamp = 0 } of events) {
    const line = untee(message);
    const ownNs = BigInt(timestamp) * nsPerMs;
    const timeNs = line.begins ? ownNs : (begun.get(line.stream) ?? ownNs);
    begun.set(line.stream, timeNs);
    yield { ...line, timeNs };
  }
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
