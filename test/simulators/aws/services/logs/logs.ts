/** CloudWatch Logs. */
import type {
  CreateLogGroupCommandInput,
  CreateLogGroupCommandOutput,
  CreateLogStreamCommandInput,
  CreateLogStreamCommandOutput,
  DeleteLogGroupCommandInput,
  DeleteLogGroupCommandOutput,
  DeleteLogStreamCommandInput,
  DeleteLogStreamCommandOutput,
  DescribeLogGroupsCommandInput,
  DescribeLogGroupsCommandOutput,
  DescribeLogStreamsCommandInput,
  DescribeLogStreamsCommandOutput,
  FilterLogEventsCommandInput,
  FilterLogEventsCommandOutput,
  GetLogEventsCommandInput,
  GetLogEventsCommandOutput,
  PutLogEventsCommandInput,
  PutLogEventsCommandOutput,
} from "@aws-sdk/client-cloudwatch-logs";

import type { Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, operation, type ServiceHandler } from "../../wire/service.ts";
import { type Page, pageOf } from "../pages.ts";
import { eventPage, isForward } from "./event-pages.ts";
import { filterTest } from "./filter-pattern.ts";
import type { LogState, LogStream } from "./state.ts";

const hourMs = 3_600_000;
const maxBatchBytes = 1024 ** 2;

/** The simulated CloudWatch Logs. */
export function logsService({ clock, switches }: Context, state: LogState): ServiceHandler {
  const onGroup = (action: string, group: string): AccessRequest[] => [
    // This is how AWS names a group in what it checks: with an empty stream.
    { action: `logs:${action}`, resource: `${state.groupArn(group)}:log-stream:` },
  ];
  const onStream = (action: string, group: string, stream: string): AccessRequest[] => [
    { action: `logs:${action}`, resource: state.streamArn(group, stream) },
  ];

  const shownStream = (group: string, stream: LogStream) => {
    const events = state.readable(stream);
    return {
      logStreamName: stream.name,
      arn: state.streamArn(group, stream.name),
      creationTime: stream.createdAt,
      firstEventTimestamp: events[0]?.timestamp,
      lastEventTimestamp: events.at(-1)?.timestamp,
      lastIngestionTime: events.at(-1)?.ingestionTime,
      storedBytes: 0,
    };
  };

  return {
    name: "logs",
    codes: {
      invalid: "InvalidParameterException",
      throttled: "ThrottlingException",
      denied: "AccessDeniedException",
      unknownKey: "UnrecognizedClientException",
    },
    operations: {
      CreateLogGroup: operation<CreateLogGroupCommandInput, CreateLogGroupCommandOutput>({
        access: ({ logGroupName = "" }) => onGroup("CreateLogGroup", logGroupName),
        run: ({ logGroupName = "" }) => {
          state.createGroup(logGroupName);
          return {};
        },
      }),

      DeleteLogGroup: operation<DeleteLogGroupCommandInput, DeleteLogGroupCommandOutput>({
        access: ({ logGroupName = "" }) => onGroup("DeleteLogGroup", logGroupName),
        run: ({ logGroupName = "" }) => {
          state.deleteGroup(logGroupName);
          return {};
        },
      }),

      CreateLogStream: operation<CreateLogStreamCommandInput, CreateLogStreamCommandOutput>({
        access: ({ logGroupName = "", logStreamName = "" }) =>
          onStream("CreateLogStream", logGroupName, logStreamName),
        run: ({ logGroupName = "", logStreamName = "" }) => {
          state.createStream(logGroupName, logStreamName);
          return {};
        },
      }),

      DeleteLogStream: operation<DeleteLogStreamCommandInput, DeleteLogStreamCommandOutput>({
        access: ({ logGroupName = "", logStreamName = "" }) =>
          onStream("DeleteLogStream", logGroupName, logStreamName),
        run: ({ logGroupName = "", logStreamName = "" }) => {
          state.deleteStream(logGroupName, logStreamName);
          return {};
        },
      }),

      DescribeLogGroups: operation<DescribeLogGroupsCommandInput, DescribeLogGroupsCommandOutput>({
        access: () => [{ action: "logs:DescribeLogGroups", resource: "*" }],
        run: ({ logGroupNamePrefix = "", logGroupNamePattern, logGroupIdentifiers, nextToken, limit }) => {
          if (logGroupNamePattern !== undefined || logGroupIdentifiers !== undefined) {
            throw new AwsFault("InvalidParameterException", "only logGroupNamePrefix is simulated", 501);
          }
          const found = state.groups().filter(({ name }) => name.startsWith(logGroupNamePrefix));
          const { items, next } = requirePage(found, nextToken, limit);
          const logGroups = items.map(({ name, createdAt }) => ({
            logGroupName: name,
            arn: `${state.groupArn(name)}:*`,
            logGroupArn: state.groupArn(name),
            creationTime: createdAt,
            metricFilterCount: 0,
            storedBytes: 0,
            logGroupClass: "STANDARD" as const,
          }));
          return { logGroups, nextToken: next };
        },
      }),

      DescribeLogStreams: operation<DescribeLogStreamsCommandInput, DescribeLogStreamsCommandOutput>({
        access: (input) => onGroup("DescribeLogStreams", groupNameOf(input)),
        run: (input) => {
          const {
            logStreamNamePrefix,
            orderBy = "LogStreamName",
            descending = false,
            nextToken,
            limit,
          } = input;
          if (orderBy === "LastEventTime" && logStreamNamePrefix !== undefined) {
            const message = "Cannot order by LastEventTime with a logStreamNamePrefix.";
            throw new AwsFault("InvalidParameterException", message);
          }
          const group = groupNameOf(input);
          const found = [...state.group(group).streams.values()]
            .filter(({ name }) => name.startsWith(logStreamNamePrefix ?? ""))
            .map((stream) => shownStream(group, stream))
            .sort((one, other) =>
              orderBy === "LastEventTime"
                ? (one.lastEventTimestamp ?? 0) - (other.lastEventTimestamp ?? 0)
                : Number(one.logStreamName > other.logStreamName) || -1,
            );
          const { items, next } = requirePage(descending ? found.reverse() : found, nextToken, limit);
          return { logStreams: items, nextToken: next };
        },
      }),

      GetLogEvents: operation<GetLogEventsCommandInput, GetLogEventsCommandOutput>({
        access: (input) => onStream("GetLogEvents", groupNameOf(input), input.logStreamName ?? ""),
        run: (input) => {
          const { nextToken, startFromHead = false, limit } = input;
          const stream = state.stream(groupNameOf(input), input.logStreamName ?? "");
          const needsHead = switches.forwardTokensNeedStartFromHead && !startFromHead;
          if (nextToken !== undefined && isForward(nextToken) && needsHead) {
            const message = "A forward token needs startFromHead to be true.";
            throw new AwsFault("InvalidParameterException", message);
          }
          const page = eventPage(state.readable(stream, input.startTime, input.endTime), {
            startFromHead,
            emptyPages: switches.emptyLogPages,
            ...(nextToken === undefined ? {} : { token: nextToken }),
            ...(limit === undefined ? {} : { limit }),
          });
          if (page === undefined) {
            throw new AwsFault("InvalidParameterException", "The specified nextToken is invalid.");
          }
          return {
            ...page,
            events: page.events.map(({ timestamp, message, ingestionTime }) => ({
              timestamp,
              message,
              ingestionTime,
            })),
          };
        },
      }),

      FilterLogEvents: operation<FilterLogEventsCommandInput, FilterLogEventsCommandOutput>({
        access: (input) => onGroup("FilterLogEvents", groupNameOf(input)),
        run: (input) => {
          const { logStreamNames, logStreamNamePrefix, filterPattern, nextToken, limit = 10_000 } = input;
          if (logStreamNames !== undefined && logStreamNamePrefix !== undefined) {
            const message = "logStreamNames and logStreamNamePrefix exclude each other.";
            throw new AwsFault("InvalidParameterException", message);
          }
          if (input.startFromHead === false) {
            throw new AwsFault("InvalidParameterException", "startFromHead false is not simulated", 501);
          }
          const group = groupNameOf(input);
          const streams =
            logStreamNames?.map((name) => state.stream(group, name)) ??
            [...state.group(group).streams.values()].filter(({ name }) =>
              name.startsWith(logStreamNamePrefix ?? ""),
            );
          const test = filterTest(filterPattern ?? "");
          const found = streams
            .flatMap((stream) =>
              state
                .readable(
                  stream,
                  input.startTime,
                  input.endTime === undefined ? undefined : input.endTime + 1,
                )
                .filter(({ message }) => test(message))
                .map((event) => ({ ...event, stream: stream.name })),
            )
            .sort((one, other) => one.timestamp - other.timestamp || one.sequence - other.sequence);
          const { items, next } = requirePage(found, nextToken, limit);
          return {
            events: items.map(({ stream, timestamp, message, ingestionTime, sequence }) => ({
              logStreamName: stream,
              timestamp,
              message,
              ingestionTime,
              eventId: String(sequence).padStart(56, "0"),
            })),
            searchedLogStreams: [],
            nextToken: next,
          };
        },
      }),

      PutLogEvents: operation<PutLogEventsCommandInput, PutLogEventsCommandOutput>({
        access: ({ logGroupName = "", logStreamName = "" }) =>
          onStream("PutLogEvents", logGroupName, logStreamName),
        run: ({ logGroupName = "", logStreamName = "", logEvents = [] }) => {
          const events = logEvents.map(({ timestamp = 0, message = "" }) => ({ timestamp, message }));
          checkBatch(events);
          const now = clock.nowMs();
          const tooOld = events.filter(({ timestamp }) => timestamp < now - 14 * 24 * hourMs).length;
          const tooNew = events.findIndex(({ timestamp }) => timestamp > now + 2 * hourMs);
          const end = tooNew < 0 ? events.length : tooNew;
          state.putLogEvents(logGroupName, logStreamName, events.slice(tooOld, end));
          const rejected = {
            ...(tooOld > 0 ? { tooOldLogEventEndIndex: tooOld } : {}),
            ...(tooNew >= 0 ? { tooNewLogEventStartIndex: tooNew } : {}),
          };
          return Object.keys(rejected).length === 0 ? {} : { rejectedLogEventsInfo: rejected };
        },
      }),
    },
  };
}

/** A batch is in the order of time, spans a day at most, and holds 1 MiB at most. */
function checkBatch(events: readonly { readonly timestamp: number; readonly message: string }[]): void {
  if (events.some(({ timestamp }, index) => timestamp < (events[index - 1]?.timestamp ?? 0))) {
    const message = "Log events in a single PutLogEvents request must be in chronological order.";
    throw new AwsFault("InvalidParameterException", message);
  }
  if ((events.at(-1)?.timestamp ?? 0) - (events[0]?.timestamp ?? 0) > 24 * hourMs) {
    const message =
      "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.";
    throw new AwsFault("InvalidParameterException", message);
  }
  const bytes = events.reduce((sum, { message }) => sum + Buffer.byteLength(message) + 26, 0);
  if (bytes > maxBatchBytes) {
    throw new AwsFault(
      "InvalidParameterException",
      `Upload too large: ${bytes} bytes exceeds limit of 1048576`,
    );
  }
}

/** The group by its name or its ARN; one of them. */
function groupNameOf(input: {
  readonly logGroupName?: string;
  readonly logGroupIdentifier?: string;
}): string {
  const { logGroupName, logGroupIdentifier } = input;
  const named = logGroupName ?? logGroupIdentifier;
  if (named === undefined || (logGroupName !== undefined && logGroupIdentifier !== undefined)) {
    const message = "Exactly one of logGroupName and logGroupIdentifier must be given.";
    throw new AwsFault("InvalidParameterException", message);
  }
  return named.replace(/^arn:.*:log-group:/, "");
}

/** Fifty a page where the request names no number. */
function requirePage<Item>(
  all: readonly Item[],
  token: string | undefined,
  size: number | undefined,
): Page<Item> {
  const page = pageOf(all, token, size ?? 50);
  if (page === undefined) {
    throw new AwsFault("InvalidParameterException", "The specified nextToken is invalid.");
  }
  return page;
}
