import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";

import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { AwsService } from "../aws/clients.ts";
import { fakeClient, refusal } from "../testing/fake-client.ts";
import { cloudWatchLog } from "./cloudwatch-log.ts";

/** Streams of messages, each a millisecond after the other; pages of two events, with an empty one on the way. */
function cloudWatch(streams: Readonly<Record<string, readonly string[]>>) {
  return fakeClient<AwsService<CloudWatchLogsClient>>({
    GetLogEvents: ({ logStreamName, startFromHead, nextToken, startTime = 0 }) => {
      const messages = streams[String(logStreamName)];
      if (messages === undefined) {
        throw refusal("logs", "GetLogEvents", "ResourceNotFoundException");
      }
      const all = messages
        .map((message, timestamp) => ({ message, timestamp }))
        .filter(({ timestamp }) => timestamp >= Number(startTime));
      // A page is named by where it begins; the half steps are empty pages.
      const at = nextToken === undefined ? (startFromHead ? 0 : all.length) : Number(nextToken);
      if (startFromHead) {
        const isGap = !Number.isInteger(at);
        const next = at >= all.length ? at : isGap ? at + 0.5 : at + 1.5;
        return { events: isGap ? [] : all.slice(at, at + 2), nextForwardToken: String(next) };
      }
      const begin = Math.max(0, at - 2);
      return { events: all.slice(begin, at), nextBackwardToken: String(begin) };
    },
  });
}

async function read(
  streams: Readonly<Record<string, readonly string[]>>,
  range: { tail?: bigint; sinceNs?: bigint } = {},
): Promise<{ readonly lines: string[]; readonly calls: number }> {
  const { client, calls } = cloudWatch(streams);
  const log = cloudWatchLog({ logs: client, logGroup: "/g", streamsOf: () => ["one", "two"] });
  const lines: string[] = [];
  const wanted = { tail: range.tail, sinceNs: range.sinceNs };
  for await (const { stream, data } of log.lines("c", wanted, AbortSignal.timeout(10_000))) {
    lines.push(`${stream === Stream.STDERR ? "err" : "out"}:${Buffer.from(data).toString().trimEnd()}`);
  }
  return { lines, calls: calls.length };
}

describe("a log in CloudWatch", () => {
  it("is read to where the same token comes twice, over empty pages and several streams", async () => {
    const { lines } = await read({ one: ["a", "b", "c"], two: ["d"] });
    assert.deepEqual(lines, ["out:a", "out:b", "out:c", "out:d"]);
  });

  it("tells stderr by its marker, and lines of stdout that look like one by theirs", async () => {
    const { lines } = await read({
      one: ["[stderr] oh", "[stdout] [stderr] not really", "[stdout] [stdout] x", "[other] y"],
    });
    assert.deepEqual(lines, ["err:oh", "out:[stderr] not really", "out:[stdout] x", "out:[other] y"]);
  });

  it("has no lines of the agent itself, and does not count them", async () => {
    const one = ["[sockerless] ready", "a", "[stdout] [sockerless] of the container", "[sockerless] stop"];
    assert.deepEqual((await read({ one })).lines, ["out:a", "out:[sockerless] of the container"]);
    assert.deepEqual((await read({ one }, { tail: 2n })).lines, [
      "out:a",
      "out:[sockerless] of the container",
    ]);
  });

  it("is empty where its group or stream does not exist", async () => {
    assert.deepEqual((await read({})).lines, []);
    assert.deepEqual((await read({}, { tail: 3n })).lines, []);
  });

  it("is read from the end for its last lines, no further than they reach", async () => {
    const one = Array.from({ length: 100 }, (_, index) => `line ${index}`);
    const { lines, calls } = await read({ one, two: ["last"] }, { tail: 4n });
    assert.deepEqual(lines, ["out:line 97", "out:line 98", "out:line 99", "out:last"]);
    assert.ok(calls <= 5, `${calls} calls`);
    assert.deepEqual((await read({ one }, { tail: 0n })).lines, []);
    assert.equal((await read({ one, two: ["x"] }, { tail: 1_000n })).lines.length, 101);
  });

  it("begins where it is asked to", async () => {
    const { lines } = await read({ one: ["a", "b", "c"] }, { sinceNs: 1_500_000n });
    assert.deepEqual(lines, ["out:b", "out:c"]);
  });
});
