/** The log of a container in CloudWatch: one stream per task, and one event per line. */
import {
  type CloudWatchLogsClient,
  GetLogEventsCommand,
  type GetLogEventsCommandInput,
  type GetLogEventsCommandOutput,
  type OutputLogEvent,
} from "@aws-sdk/client-cloudwatch-logs";

import { ignoring } from "../../../common/errors.ts";
import type { CloudLog } from "../../cloud/contract/cloud-log.ts";
import { type LogEvent, type LogStreams, streamLog } from "../../cloud/stored/stream-log.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";

/** Settings and dependencies of {@link cloudWatchLog}. */
export interface CloudWatchLogOptions extends Pick<LogStreams<string>, "streamsOf"> {
  readonly logs: AwsService<CloudWatchLogsClient>;
  /** That of streams which an earlier version has recorded. */
  readonly logGroup: string;
}

const nsPerMs = 1_000_000n;
/** Between group and stream, neither of which may have it. */
const separator = ":";

/** A stream's name with that of its group, which may be another one in the settings by the time it is read. */
export function formatStream(logGroup: string, stream: string): string {
  return `${logGroup}${separator}${stream}`;
}

/** The log of a backend's containers. Reading throws AwsError. */
export function cloudWatchLog(options: CloudWatchLogOptions): CloudLog {
  return streamLog<string>({
    streamsOf: options.streamsOf,
    /** The end is where the same token is returned twice: pages before it may be empty. */
    async page({ stream, backward, fromNs, cursor }, signal) {
      const startTime = fromNs === undefined ? undefined : Number(fromNs / nsPerMs);
      const [logStreamName = "", logGroupName = options.logGroup] = stream.split(separator).reverse();
      const asked = { logGroupName, logStreamName, startFromHead: !backward, startTime, nextToken: cursor };
      const page = await readPage(options, asked, signal);
      const events = page?.events?.map(eventOf) ?? [];
      const next = backward ? page?.nextBackwardToken : page?.nextForwardToken;
      return { events: backward ? events.reverse() : events, next: next === cursor ? undefined : next };
    },
  });
}

/** One page; undefined if the group or stream does not exist, so that nothing was written. */
async function readPage(
  { logs }: CloudWatchLogOptions,
  input: GetLogEventsCommandInput,
  abortSignal: AbortSignal,
): Promise<GetLogEventsCommandOutput | undefined> {
  const asked = logs.send(new GetLogEventsCommand(input), { abortSignal });
  return await asked.catch(ignoring((error) => isAwsError(error, "ResourceNotFoundException")));
}

function eventOf({ message = "", timestamp = 0 }: OutputLogEvent): LogEvent {
  return { message, timeNs: BigInt(timestamp) * nsPerMs };
}
