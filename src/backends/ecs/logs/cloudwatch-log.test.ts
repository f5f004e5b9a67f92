import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";

import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { AwsService } from "../aws/clients.ts";
import { fakeClient, refusal } from "../testing/fake-client.ts";
import { cloudWatchLog, formatStream } from "./cloudwatch-log.ts";

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
  for await (const { stream, data } of log.lines("c", wanted, AbortSignal.timeout(120_000))) {
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

  it("has the bytes that were written: blank lines, ends without a newline, long lines and no UTF-8", async () => {
    const one = [
      "[stdout] ",
      "[stderr] ",
      "[stdout %] caf%E9 100%25",
      "[stdout +] a lo",
      "[stderr %+] %FF",
      "[stdout -+] ng li",
      "[stderr -] err",
      "[stdout %-] ne%00",
      "[stdout] [stdout +] said",
      "[stdout +] no end",
    ];
    const bytesOf = async (tail?: bigint): Promise<readonly [string, string]> => {
      const { client } = cloudWatch({ one });
      const log = cloudWatchLog({ logs: client, logGroup: "/g", streamsOf: () => ["one"] });
      const told: Record<number, Buffer[]> = { [Stream.STDOUT]: [], [Stream.STDERR]: [] };
      for await (const { stream, data } of log.lines(
        "c",
        { tail, sinceNs: undefined },
        AbortSignal.timeout(120_000),
      )) {
        told[stream]?.push(Buffer.from(data));
      }
      const text = (stream: Stream): string => Buffer.concat(told[stream] ?? []).toString("latin1");
      return [text(Stream.STDOUT), text(Stream.STDERR)];
    };
    const long = "a long line\0\n";
    assert.deepEqual(await bytesOf(), [`\ncaf\xe9 100%\n${long}[stdout +] said\nno end`, "\n\xfferr\n"]);
    for (const [tail, out, err] of [
      [1n, "no end", ""],
      [3n, `${long}[stdout +] said\nno end`, ""],
      [4n, `${long}[stdout +] said\nno end`, "\xfferr\n"],
    ] as const) {
      assert.deepEqual(await bytesOf(tail), [out, err]);
    }
  });

  it("gives a line that was cut the time of its begin", async () => {
    const { client } = cloudWatch({ one: ["a", "[stdout +] b", "[stdout -] c", "d"] });
    const log = cloudWatchLog({ logs: client, logGroup: "/g", streamsOf: () => ["one"] });
    const times: bigint[] = [];
    for await (const { timeNs } of log.lines(
      "c",
      { tail: undefined, sinceNs: undefined },
      AbortSignal.timeout(120_000),
    )) {
      times.push(timeNs / 1_000_000n);
    }
    assert.deepEqual(times, [0n, 1n, 1n, 3n]);
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

  it("is read again instead of held where its last lines are many bytes", async () => {
    const long = "x".repeat(2 ** 20);
    const one = ["a", "[stdout +] first", ...Array<string>(3).fill(`[stdout -+] ${long}`), "[stdout -] end"];
    const two = [...Array.from({ length: 20 }, (_, index) => `[stderr] ${index} ${long}`), "b"];
    const { client, made } = cloudWatch({ one, two });
    const log = cloudWatchLog({ logs: client, logGroup: "/g", streamsOf: () => ["one", "two"] });
    const read = async (tail: bigint): Promise<string[]> => {
      const lines: string[] = [];
      const range = { tail, sinceNs: undefined };
      for await (const { data, begins } of log.lines("c", range, AbortSignal.timeout(60_000))) {
        const text = Buffer.from(data).toString().replaceAll("x", "").trim();
        lines.push(begins ? text : `${lines.pop()}${text}`);
      }
      return lines;
    };
    const numbers = Array.from({ length: 20 }, (_, index) => String(index));
    assert.deepEqual(await read(3n), ["18", "19", "b"]);
    const readFromHead = () => made("GetLogEvents").filter(({ startFromHead }) => startFromHead);
    assert.deepEqual(readFromHead(), [], "few are held");
    assert.deepEqual(await read(15n), [...numbers.slice(6), "b"]);
    assert.ok(readFromHead().every(({ logStreamName }) => logStreamName === "two"));
    assert.notEqual(readFromHead().length, 0);
    assert.deepEqual(await read(22n), ["firstend", ...numbers, "b"]);
    assert.deepEqual(await read(100n), ["a", "firstend", ...numbers, "b"]);
  });

  it("has its agent's own lines of the last task, the newest first, as far as five pages reach", async () => {
    const told = async (two: readonly string[]): Promise<string[]> => {
      const { client } = cloudWatch({ one: ["[sockerless] of another task"], two });
      const log = cloudWatchLog({ logs: client, logGroup: "/g", streamsOf: () => ["one", "two"] });
      const lines: string[] = [];
      for await (const line of log.agentLines("c", AbortSignal.timeout(120_000))) {
        lines.push(line);
      }
      return lines;
    };
    const two = [
      "[sockerless] ready",
      "a",
      "[sockerless] exit",
      "[stdout] [sockerless] exit",
      "[sockerless] bye",
    ];
    assert.deepEqual(await told(two), ["bye", "exit", "ready"]);
    assert.deepEqual(await told(["[sockerless] early", ...Array.from({ length: 10 }, () => "output")]), []);
  });

  it("has its agent's last line however many empty pages come before it", async () => {
    const { client } = fakeClient<AwsService<CloudWatchLogsClient>>({
      GetLogEvents: ({ nextToken = "0" }) => {
        const events = nextToken === "20" ? [{ message: "[sockerless] exit", timestamp: 1 }] : [];
        return { events, nextBackwardToken: nextToken === "21" ? "21" : String(Number(nextToken) + 1) };
      },
    });
    const log = cloudWatchLog({ logs: client, logGroup: "/g", streamsOf: () => ["one"] });
    assert.deepEqual(await Array.fromAsync(log.agentLines("c", AbortSignal.timeout(10_000))), ["exit"]);
  });

  it("is read in the group that its task wrote to, whichever the settings name by then", async () => {
    const { client } = fakeClient<AwsService<CloudWatchLogsClient>>({
      GetLogEvents: ({ logGroupName, logStreamName, nextToken }) => ({
        events:
          nextToken === undefined ? [{ message: `${logGroupName} ${logStreamName}`, timestamp: 1 }] : [],
        nextForwardToken: "1",
      }),
    });
    const streamsOf = () => ["recorded/by/an/earlier/version", formatStream("/former", "sockerless/main/1")];
    const log = cloudWatchLog({ logs: client, logGroup: "/g", streamsOf });
    const range = { tail: undefined, sinceNs: undefined };
    const pieces = await Array.fromAsync(log.lines("c", range, AbortSignal.timeout(10_000)));
    assert.deepEqual(
      pieces.map(({ data }) => Buffer.from(data).toString().trimEnd()),
      ["/g recorded/by/an/earlier/version", "/former sockerless/main/1"],
    );
  });

  it("begins where it is asked to", async () => {
    const { lines } = await read({ one: ["a", "b", "c"] }, { sinceNs: 1_500_000n });
    assert.deepEqual(lines, ["out:b", "out:c"]);
  });
});
