/** What CloudWatch has of a container's output: one stream for each of its tasks, an event for each line. */
import {
  type CloudWatchLogsClient,
  GetLogEventsCommand,
  type GetLogEventsCommandInput,
  type OutputLogEvent,
} from "@aws-sdk/client-cloudwatch-logs";

import type { LogPiece } from "../../common/cloud/stored/log-lines.ts";
import type { CloudLog, CloudLogRange } from "../../common/cloud/stored/stored-service.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import { isAgentLine, untee } from "./markers.ts";

/** What is read. */
export interface CloudWatchLogOptions {
  readonly logs: AwsService<CloudWatchLogsClient>;
  readonly logGroup: string;
  /** The streams of a container's tasks, oldest first. */
  readonly streamsOf: (containerId: string) => readonly string[];
}

const nsPerMs = 1_000_000n;

/** The log of a backend's containers. Reading throws AwsError. */
export function cloudWatchLog(options: CloudWatchLogOptions): CloudLog {
  return {
    async *lines(containerId, { tail, sinceNs, beforeLastTask = false }: CloudLogRange, signal) {
      const all = options.streamsOf(containerId);
      const streams = beforeLastTask ? all.slice(0, -1) : all;
      if (tail !== undefined) {
        yield* (await lastEvents(options, streams, tail, signal)).map(pieceOf);
        return;
      }
      const startTime = sinceNs === undefined ? undefined : Number(sinceNs / nsPerMs);
      for (const logStreamName of streams) {
        for await (const page of pagesForward(options, { logStreamName, startTime }, signal)) {
          yield* page.map(pieceOf);
        }
      }
    },
  };
}

/** From the head to where the same token comes twice. Pages may be empty before the end. */
async function* pagesForward(
  options: CloudWatchLogOptions,
  input: Pick<GetLogEventsCommandInput, "logStreamName" | "startTime">,
  signal: AbortSignal,
): AsyncGenerator<OutputLogEvent[]> {
  let nextToken: string | undefined;
  for (;;) {
    const page = await events(options, { ...input, startFromHead: true, nextToken }, signal);
    yield page?.events ?? [];
    if (page?.nextForwardToken === undefined || page.nextForwardToken === nextToken) {
      return;
    }
    nextToken = page.nextForwardToken;
  }
}

/** The last events of all streams together, read from the end. */
async function lastEvents(
  options: CloudWatchLogOptions,
  streams: readonly string[],
  count: bigint,
  signal: AbortSignal,
): Promise<OutputLogEvent[]> {
  const found: OutputLogEvent[][] = [];
  let left = count;
  for (const logStreamName of streams.toReversed()) {
    let nextToken: string | undefined;
    while (left > 0n) {
      const page = await events(options, { logStreamName, startFromHead: false, nextToken }, signal);
      found.push(page?.events ?? []);
      left -= BigInt(page?.events?.length ?? 0);
      if (page?.nextBackwardToken === undefined || page.nextBackwardToken === nextToken) {
        break;
      }
      nextToken = page.nextBackwardToken;
    }
  }
  const all = found.toReversed().flat();
  return left < 0n ? all.slice(Number(-left)) : all;
}

/** One page, without the lines of the agent itself; undefined: the group or the stream does not exist, which is a log that nobody wrote to. */
async function events(
  { logs, logGroup }: CloudWatchLogOptions,
  input: Omit<GetLogEventsCommandInput, "logGroupName">,
  abortSignal: AbortSignal,
): Promise<
  | {
      readonly events?: OutputLogEvent[] | undefined;
      readonly nextForwardToken?: string | undefined;
      readonly nextBackwardToken?: string | undefined;
    }
  | undefined
> {
  try {
    const page = await logs.send(new GetLogEventsCommand({ logGroupName: logGroup, ...input }), {
      abortSignal,
    });
    return { ...page, events: page.events?.filter(({ message = "" }) => !isAgentLine(message)) };
  } catch (error) {
    if (isAwsError(error, "ResourceNotFoundException")) {
      return undefined;
    }
    throw error;
  }
}

function pieceOf({ message = "", timestamp = 0 }: OutputLogEvent): LogPiece {
  const { stream, text } = untee(message);
  return {
    stream,
    timeNs: BigInt(timestamp) * nsPerMs,
    data: Buffer.from(`${text}\n`),
    begins: true,
    ends: true,
  };
}
