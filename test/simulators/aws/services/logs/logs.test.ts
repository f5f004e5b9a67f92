import assert from "node:assert/strict";
import { test } from "node:test";

import {
  CloudWatchLogsClient,
  DescribeLogGroupsCommand,
  GetLogEventsCommand,
  type GetLogEventsCommandInput,
  type GetLogEventsCommandOutput,
} from "@aws-sdk/client-cloudwatch-logs";

import { type Aws, type AwsOptions, startAws } from "../../aws.ts";

const group = "/sockerless/containers";
const stream = "sockerless/main/0123456789abcdef";

function clientOf(aws: Aws): CloudWatchLogsClient {
  return new CloudWatchLogsClient({ ...aws.clientConfig, maxAttempts: 1 });
}

/** A stream whose events are `line 0`, `line 1`, … a millisecond apart, in the past hour. */
async function withLines(lines: readonly string[], options?: AwsOptions): Promise<Aws> {
  const aws = await startAws({ ...options, lightweight: true });
  aws.services.logs.createStream(group, stream);
  const first = aws.clock.nowMs() - 1_000_000;
  const events = lines.map((message, index) => ({ timestamp: first + index, message }));
  aws.services.logs.putLogEvents(group, stream, events);
  return aws;
}

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `line ${index}`);
}

function get(aws: Aws, request: Partial<GetLogEventsCommandInput>): Promise<GetLogEventsCommandOutput> {
  const input = { logGroupName: group, logStreamName: stream, ...request };
  return clientOf(aws).send(new GetLogEventsCommand(input));
}

const messagesOf = ({ events = [] }: GetLogEventsCommandOutput): (string | undefined)[] =>
  events.map(({ message }) => message);

/** Reads on until a page answers with the token that it was asked with; how many events each page had. */
async function pagesFromHead(aws: Aws, limit?: number): Promise<{ lines: unknown[]; sizes: number[] }> {
  const lines: unknown[] = [];
  const sizes: number[] = [];
  let nextToken: string | undefined;
  for (;;) {
    const page = await get(aws, { startFromHead: true, nextToken, limit });
    lines.push(...messagesOf(page));
    sizes.push(page.events?.length ?? -1);
    if (page.nextForwardToken === nextToken) {
      return { lines, sizes };
    }
    nextToken = page.nextForwardToken;
  }
}

test("reading forward ends with the same token twice", async () => {
  await using aws = await withLines(numbered(5));
  const { lines, sizes } = await pagesFromHead(aws, 2);
  assert.deepEqual(lines, numbered(5));
  assert.deepEqual(sizes, [2, 2, 1, 0]);
});

test("lines that a container wrote together are events, in order among the others", async () => {
  await using aws = await withLines(["before"]);
  aws.services.logs.putLines(group, stream, ["one", "two"]);
  aws.services.logs.putLines(group, stream, ["three"]);
  aws.services.logs.putLogEvents(group, stream, [
    { timestamp: aws.clock.nowMs() - 500_000, message: "between" },
    { timestamp: aws.clock.nowMs(), message: "after" },
  ]);
  aws.services.logs.putLines(group, stream, ["last"]);
  const { lines } = await pagesFromHead(aws, 3);
  assert.deepEqual(lines, ["before", "between", "one", "two", "three", "after", "last"]);
  assert.throws(() => aws.services.logs.putLines(group, "none", ["one"]), /stream does not exist/);
});

test("a reader at the end finds what comes later with the token that it has", async () => {
  await using aws = await withLines(numbered(1));
  const { nextForwardToken: nextToken } = await get(aws, { startFromHead: true });
  aws.services.logs.putLogEvents(group, stream, [{ timestamp: aws.clock.nowMs(), message: "later" }]);
  assert.deepEqual(messagesOf(await get(aws, { startFromHead: true, nextToken })), ["later"]);
});

test("without a token the newest events are answered, and older ones by the backward token", async () => {
  await using aws = await withLines(numbered(5));
  const newest = await get(aws, { limit: 2 });
  assert.deepEqual(messagesOf(newest), ["line 3", "line 4"]);
  const older = await get(aws, { limit: 2, nextToken: newest.nextBackwardToken });
  assert.deepEqual(messagesOf(older), ["line 1", "line 2"]);
  const oldest = await get(aws, { limit: 2, nextToken: older.nextBackwardToken });
  assert.deepEqual(messagesOf(oldest), ["line 0"]);
  const none = await get(aws, { limit: 2, nextToken: oldest.nextBackwardToken });
  assert.deepEqual(messagesOf(none), []);
  assert.equal(none.nextBackwardToken, oldest.nextBackwardToken);
});

test("a page has at most 10,000 events and 1 MiB", async () => {
  await using many = await withLines(numbered(10_001));
  assert.deepEqual((await pagesFromHead(many)).sizes, [10_000, 1, 0]);
  await using large = await withLines(["a", "b", "c"].map((letter) => letter.repeat(500_000)));
  assert.deepEqual((await pagesFromHead(large)).sizes, [2, 1, 0]);
});

test("events are chosen by time: the start is included, the end is not", async () => {
  await using aws = await withLines(numbered(5));
  const { events = [] } = await get(aws, { startFromHead: true });
  const times = events.map(({ timestamp }) => timestamp);
  const page = await get(aws, { startFromHead: true, startTime: times[1], endTime: times[3] });
  assert.deepEqual(messagesOf(page), ["line 1", "line 2"]);
});

test("tokens that are none, and forward ones without startFromHead, are refused", async () => {
  await using aws = await withLines(numbered(1));
  const { nextForwardToken } = await get(aws, { startFromHead: true });
  await assert.rejects(get(aws, { nextToken: "f/1", startFromHead: true }), {
    name: "InvalidParameterException",
  });
  await assert.rejects(get(aws, { nextToken: nextForwardToken }), { name: "InvalidParameterException" });
});

test("a group or a stream that is missing is said to be", async () => {
  await using aws = await startAws({ lightweight: true });
  await assert.rejects(get(aws, { logGroupName: "none" }), { name: "ResourceNotFoundException" });
  await assert.rejects(get(aws, {}), { name: "ResourceNotFoundException" });
});

test("events can be read when they are ingested, not before", async () => {
  await using aws = await withLines(numbered(2), { delays: { logIngestion: 3_600_000 } });
  assert.deepEqual(messagesOf(await get(aws, { startFromHead: true })), []);
  aws.clock.advance(3_600_000);
  assert.deepEqual(messagesOf(await get(aws, { startFromHead: true })), numbered(2));
});

test("groups are found by their prefixes", async () => {
  await using aws = await withLines(numbered(2));
  const logs = clientOf(aws);
  const { logGroups } = await logs.send(new DescribeLogGroupsCommand({ logGroupNamePrefix: "/sockerless" }));
  assert.deepEqual(
    logGroups?.map(({ logGroupName }) => logGroupName),
    [group],
  );
});

test("a stream keeps the newest of more than 32 MiB, whether it is read meanwhile or not", async () => {
  for (const reads of [false, true]) {
    await using aws = await withLines([]);
    const { logs } = aws.services;
    for (let batch = 0; batch < 100; batch++) {
      const lines = Array.from({ length: 1000 }, (_, index) => `${batch}/${index}`.padEnd(1024 - 26, "."));
      logs.putLines(group, stream, lines);
      if (reads) {
        void logs.stream(group, stream).events;
      }
    }
    const { events } = logs.stream(group, stream);
    assert.ok(events.length >= 32_000 && events.length <= 40 * 1024, `${events.length} events are kept`);
    assert.match(events.at(-1)?.message ?? "", /^99\/999\./);
    assert.equal(new Set(events.map(({ sequence }) => sequence)).size, events.length);
    assert.equal((events.at(-1)?.sequence ?? 0) - (events[0]?.sequence ?? 0), events.length - 1, "no gap");
  }
});
