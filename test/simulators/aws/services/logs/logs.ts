/** CloudWatch Logs. */

import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, operations, type ServiceHandler } from "../../wire/service.ts";
import { pagesOf } from "../pages.ts";
import { eventPage, isForward } from "./event-pages.ts";
import type { LogState } from "./state.ts";

/** The simulated CloudWatch Logs. */
export function logsService(state: LogState): ServiceHandler {
  const onStream = (action: string, group: string, stream: string): AccessRequest[] => [
    { action: `logs:${action}`, resource: state.streamArn(group, stream) },
  ];

  return {
    name: "logs",
    codes: {
      invalid: "InvalidParameterException",
      throttled: "ThrottlingException",
      denied: "AccessDeniedException",
      unknownKey: "UnrecognizedClientException",
    },
    operations: operations<typeof import("@aws-sdk/client-cloudwatch-logs")>({
      DescribeLogGroups: {
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
      },

      GetLogEvents: {
        access: (input) => onStream("GetLogEvents", groupNameOf(input), input.logStreamName ?? ""),
        run: (input) => {
          const { nextToken, startFromHead = false, limit } = input;
          const stream = state.stream(groupNameOf(input), input.logStreamName ?? "");
          if (nextToken !== undefined && isForward(nextToken) && !startFromHead) {
            const message = "A forward token needs startFromHead to be true.";
            throw new AwsFault("InvalidParameterException", message);
          }
          const page = eventPage(state.readable(stream, input.startTime, input.endTime), {
            startFromHead,
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
      },
    }),
  };
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
const requirePage = pagesOf("InvalidParameterException", 50);
