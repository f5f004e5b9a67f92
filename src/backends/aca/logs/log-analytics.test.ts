import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { ManualClock } from "../../../common/manual-clock.ts";
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { LinesLate } from "../../cloud/contract/cloud-log.ts";
import { AzureError } from "../arm/errors.ts";
import { outputQuery, stringLiteral } from "./kql.ts";
import { type LogAnalyticsOptions, logAnalyticsLog } from "./log-analytics.ts";

type Line = readonly [time: number, text: string];

const ended: Line = [9e8, "[sockerless] exit generation=1 code=0 oom_killed=false"];
const told =
  "[sockerless] the end of this log has not come to Log Analytics: lines come there late, and some never do";

const isBackward = (query: string): boolean => query.includes("| order by _timestamp_d desc");

/** A workspace that knows its own queries: output of executions by name, in any order. */
function workspace(
  executions: Readonly<Record<string, readonly Line[]>>,
  { columnsTurned = false, backward = Promise.resolve() } = {},
) {
  const queries: string[] = [];
  let failure: Error | undefined;
  const answer = (query: string): unknown => {
    const name = /ContainerGroupName_s == "([^"]*)"/.exec(query)?.[1] ?? "";
    const [, operator = "", bound = ""] = /_timestamp_d ([<>]=?) ([\d.]+)/.exec(query) ?? [];
    const isDescending = isBackward(query);
    const within = ([time]: Line): boolean =>
      operator === "" ||
      (operator.endsWith("=") && time === Number(bound)) ||
      (operator.startsWith(">") ? time > Number(bound) : time < Number(bound));
    const rows = (executions[name] ?? [])
      .filter(within)
      .toSorted(([a], [b]) => (isDescending ? b - a : a - b))
      .slice(0, Number(/\| take (\d+)/.exec(query)?.[1]));
    const [columns, ordered] = columnsTurned
      ? [["Log_s", "_timestamp_d"], rows.map((row) => row.toReversed())]
      : [["_timestamp_d", "Log_s"], rows];
    return { tables: [{ name: "PrimaryResult", columns: columns.map((name) => ({ name })), rows: ordered }] };
  };
  const azure = {
    call: (_operation: string, send: (options: object) => Promise<unknown>) => send({}),
    async request({ url, body }: { url: string; body: { query: string } }) {
      assert.equal(url, "http://logs/v1/workspaces/work%2Fspace/query");
      queries.push(body.query);
      await (isBackward(body.query) ? backward : undefined);
      if (failure !== undefined) {
        throw failure;
      }
      return { body: answer(body.query) };
    },
  };
  const clock = new ManualClock();
  const log = logAnalyticsLog({
    azure: azure as unknown as LogAnalyticsOptions["azure"],
    endpoint: "http://logs",
    workspaceId: "work/space",
    container: "main",
    streamsOf: () => Object.keys(executions),
    clock,
  });
  const fail = (error: Error): void => {
    failure = error;
  };
  return { log, queries, clock, fail };
}

async function linesOf(
  { log }: ReturnType<typeof workspace>,
  range: { readonly tail?: bigint; readonly sinceNs?: bigint; readonly beforeLastTask?: boolean } = {},
): Promise<string[]> {
  const found: string[] = [];
  for await (const { stream, data } of log.lines(
    "c",
    { tail: undefined, sinceNs: undefined, ...range },
    AbortSignal.timeout(120_000),
  )) {
    found.push(`${stream === Stream.STDERR ? "err" : "out"}:${Buffer.from(data).toString().trimEnd()}`);
  }
  return found;
}

const many = (count: number): Line[] =>
  Array.from({ length: count }, (_, index) => [Math.floor(index / 3) + 1.25, `line ${index}`]);

describe("a log in Log Analytics", () => {
  it("is read by the columns' names, in the order of time, over all executions", async () => {
    for (const columnsTurned of [false, true]) {
      const space = workspace(
        {
          one: [
            [2.5, "b"],
            [1.25, "a"],
          ],
          two: [[3, "[stderr] c"], ended],
        },
        { columnsTurned },
      );
      assert.deepEqual(await linesOf(space), ["out:a", "out:b", "err:c"]);
    }
  });

  it("is read whole where it is longer than an answer, each line once", async () => {
    const lines = many(5_000);
    const space = workspace({ one: [...lines, ended] });
    const found = await linesOf(space);
    assert.equal(found.length, lines.length);
    assert.deepEqual(new Set(found), new Set(lines.map(([, text]) => `out:${text}`)));
    const oneTime = workspace({
      one: [...Array.from({ length: 2_000 }, (): Line => [5, "x"]), [6, "y"], ended],
    });
    assert.equal((await linesOf(oneTime)).length, 2_001);
  });

  it("is read in pages by the size of its lines", async () => {
    const takenOf = async (line: string): Promise<number[]> => {
      const space = workspace({ one: [...many(4_000).map(([time]): Line => [time, line]), ended] });
      assert.equal((await linesOf(space)).length, 4_000);
      return space.queries.map((query) => Number(/\| take (\d+)/.exec(query)?.[1]));
    };
    assert.deepEqual((await takenOf("short")).slice(0, 2), [200, 2_000]);
    assert.ok((await takenOf("x".repeat(16_000))).every((taken) => taken * 16_000 <= 2 ** 22));
  });

  it("is read from its end for its last lines, and from a time on", async () => {
    const space = workspace({
      one: [
        [1, "a"],
        [2, "b"],
      ],
      two: [[3, "c"], [4, "d"], ended],
    });
    assert.deepEqual(await linesOf(space, { tail: 3n }), ["out:b", "out:c", "out:d"]);
    assert.deepEqual(await linesOf(space, { sinceNs: 2_000_000_000n }), ["out:b", "out:c", "out:d"]);
    assert.deepEqual(await linesOf(space, { beforeLastTask: true }), ["out:a", "out:b"]);
  });

  it("is looked at for its end for few users at a time", async () => {
    const answered = Promise.withResolvers<void>();
    const space = workspace({ one: [[1, "a"], ended] }, { backward: answered.promise });
    const readers = Array.from({ length: 100 }, () => linesOf(space));
    for (let turn = 0; turn < 10; turn++) {
      await setImmediate();
    }
    assert.equal(space.queries.filter(isBackward).length, 8);
    answered.resolve();
    assert.deepEqual(new Set((await Promise.all(readers)).flat()), new Set(["out:a"]));
  });

  it("whose end is missing says so", async () => {
    assert.deepEqual(await linesOf(workspace({ one: [[1, "a"]] })), ["out:a", `err:${told}`]);
    assert.deepEqual(await linesOf(workspace({ one: [] })), [`err:${told}`]);
    assert.deepEqual(await linesOf(workspace({})), []);
  });

  it("has no lines where no line has ever come to the workspace", async () => {
    const space = workspace({ one: [] });
    space.fail(
      new AzureError(
        "Query_Execute",
        Object.assign(new Error("no such table"), { statusCode: 400, code: "BadArgumentError" }),
      ),
    );
    assert.deepEqual(await linesOf(space), [`err:${told}`]);
  });

  it("is an error where the query is refused, or is answered with something else", async () => {
    const space = workspace({ one: [] });
    space.fail(
      new AzureError(
        "Query_Execute",
        Object.assign(new Error("no"), { statusCode: 403, code: "InsufficientAccessError" }),
      ),
    );
    await assert.rejects(
      linesOf(space),
      /Query_Execute: no; that is for the role Log Analytics Reader \(InsufficientAccessError\)/,
    );
  });
});

describe("the end of a run in Log Analytics", () => {
  const read = async (space: ReturnType<typeof workspace>): Promise<string[]> =>
    await Array.fromAsync(space.log.agentLines("c", AbortSignal.timeout(120_000)));

  it("is among the agent's own lines, newest first", async () => {
    const space = workspace({ one: [[1, "[sockerless] hello"], [2, "x"], ended] });
    for await (const line of space.log.agentLines("c", AbortSignal.timeout(120_000))) {
      assert.match(line, /^exit generation=1/);
      break;
    }
  });

  it("that has not come is waited for as long as lines may be late", async () => {
    const space = workspace({ one: [[1, "[sockerless] hello"]] });
    await assert.rejects(read(space), LinesLate);
    await space.clock.advance(149_000);
    await assert.rejects(read(space));
    await space.clock.advance(1_000);
    assert.deepEqual(await read(space), ["hello"]);
  });
});

describe("a query", () => {
  it("has names as strings, from which nothing gets out", () => {
    for (const name of ['x" or true //', "x\\", "x'\n| union *", "x\u2028", "😀", "`{}"]) {
      const literal = stringLiteral(name);
      assert.match(literal, /^"([\w .:/-]|\\u[0-9a-f]{4})*"$/);
      assert.equal(JSON.parse(literal), name);
    }
    const query = outputQuery({ execution: 'a"b', container: "main", order: "asc", most: 5 });
    assert.ok(query.includes('ContainerGroupName_s == "a\\u0022b" or'));
    assert.equal(query.split("\n").length, 6);
  });
});
