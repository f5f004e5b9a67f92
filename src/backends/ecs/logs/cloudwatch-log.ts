/** The log of a container in CloudWatch: one stream per task, and one event per line. */
import {
  type CloudWatchLogsClient,
  GetLogEventsCommand,
  type GetLogEventsCommandInput,
  type GetLogEventsCommandOutput,
  type OutputLogEvent,
} from "@aws-sdk/client-cloudwatch-logs";

import type { CloudLog } from "../../cloud/contract/cloud-log.ts";
import { type LogEvent, type LogStreams, streamLog } from "../../cloud/stored/stream-log.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";

/** Settings and dependencies of {@link cloudWatchLog}. */
export interface CloudWatchLogOptions extends Pick<LogStreams, "streamsOf"> {
  readonly logs: AwsService<CloudWatchLogsClient>;
  readonly logGroup: string;
}

const nsPerMs = 1_000_000n;

/** The log of a backend's containers. Reading throws AwsError. */
export function cloudWatchLog(options: CloudWatchLogOptions): CloudLog {
  return streamLog({
    streamsOf: options.streamsOf,
    forward: (logStreamName, fromNs, signal) =>
      eventsForward(
        options,
        { logStreamName, startTime: fromNs === undefined ? undefined : Number(fromNs / nsPerMs) },
        signal,
      ),
    backward: (logStreamName, mostPages, signal) => eventsBackward(options, logStreamName, mostPages, signal),
  });
}

/** Reads from the beginning until the same token is returned twice: pages before the end may be empty. */
async function* eventsForward(
  options: CloudWatchLogOptions,
  input: Pick<GetLogEventsCommandInput, "logStreamName" | "startTime">,
  signal: AbortSignal,
): AsyncGenerator<LogEvent> {
  let nextToken: string | undefined;
  for (;;) {
    const page = await readPage(options, { ...input, startFromHead: true, nextToken }, signal);
    yield* page?.events?.map(eventOf) ?? [];
    if (page?.nextForwardToken === undefined || page.nextForwardToken === nextToken) {
      return;
    }
    nextToken = page.nextForwardToken;
  }
}

/** Reads from the end, newest first. */
async function* eventsBackward(
  options: CloudWatchLogOptions,
  logStreamName: string,
  mostPages: number,
  signal: AbortSignal,
): AsyncGenerator<LogEvent> {
  let nextToken: string | undefined;
  for (let pages = 0; pages < mostPages; pages++) {
    const page = await readPage(options, { logStreamName, startFromHead: false, nextToken }, signal);
    yield* page?.events?.map(eventOf).toReversed() ?? [];
    if (page?.nextBackwardToken === undefined || page.nextBackwardToken === nextToken) {
      return;
    }
    nextToken = page.nextBackwardToken;
  }
}

/** One page; undefined if the group or stream does not exist, so that nothing was written. */
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

function eventOf({ message = "", timestamp = 0 }: OutputLogEvent): LogEvent {
  return { message, timeNs: BigInt(timestamp) * nsPerMs };
}
