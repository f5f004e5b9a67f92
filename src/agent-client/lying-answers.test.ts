/** An agent is not trusted: its answers beside the sessions end in what they say or in an error, and none is too large. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { create, type DescMessage, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";

import { RawAgent } from "../../test/support/raw-agent.ts";
import { fromUnknown } from "../common/errors.ts";
import {
  ArchiveGetResponseSchema,
  ChangesResponseSchema,
  StatsResponseSchema,
  TopResponseSchema,
  WatchResponseSchema,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import { AgentStream } from "./agent-stream.ts";
import { archiveGetStream, encodeArchiveGet } from "./archive.ts";
import { type AgentClient, createAgentClient } from "./client.ts";
import { AgentConnection } from "./connection.ts";

/**
 * Memory in bytes that one message of an agent's may take here, with room for what the transport holds of it.
 */
const messageLimit = 4 * 1024 * 1024;
const callLimitMs = 60_000;

const raw = new RawAgent();
let agent: AgentClient;
let connection: AgentConnection;

before(async () => {
  await raw.listen();
  agent = createAgentClient(raw.address);
  connection = new AgentConnection({ address: raw.address });
});
after(async () => {
  agent.close();
  connection.close();
  await raw.close();
});

/** One way of asking; the number of messages that it took for true, or what it threw. */
type Ask = () => Promise<number>;

const count = async (messages: AsyncIterable<unknown>): Promise<number> => {
  let heard = 0;
  for await (const _ of messages) {
    heard += 1;
  }
  return heard;
};
const limited = { timeoutMs: callLimitMs };

const asks: Readonly<
  Record<string, readonly [schema: DescMessage, honest: Record<string, unknown>, ask: Ask]>
> = {
  Top: [
    TopResponseSchema,
    { titles: ["PID"], processes: [{ columns: ["1"] }] },
    async () => {
      await agent.client.top({}, limited);
      return 1;
    },
  ],
  Stats: [
    StatsResponseSchema,
    { pids: { current: 1n }, networks: { eth0: { rxBytes: 1n } } },
    () => count(agent.client.stats({}, limited)),
  ],
  Changes: [
    ChangesResponseSchema,
    { message: { case: "change", value: { path: "/a", kind: 1 } } },
    () => count(agent.client.changes({}, limited)),
  ],
  Watch: [
    WatchResponseSchema,
    { generation: 1n, event: { case: "oom", value: {} } },
    () => count(agent.client.watch({}, limited)),
  ],
};

type Piece =
  | { readonly kind: "honest" }
  | { readonly kind: "noise"; readonly bytes: Uint8Array; readonly flags: number }
  | { readonly kind: "huge"; readonly length: number };

const piece: fc.Arbitrary<Piece> = fc.oneof(
  fc.constant<Piece>({ kind: "honest" }),
  fc.record({
    kind: fc.constant("noise" as const),
    bytes: fc.uint8Array({ maxLength: 60 }),
    flags: fc.constantFrom(0, 0, 1, 2, 255),
  }),
  fc.record({
    kind: fc.constant("huge" as const),
    length: fc.integer({ min: messageLimit + 1, max: 0xffffffff }),
  }),
);

function framed(message: Uint8Array, flags = 0, length = message.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
}

function bytesOf(pieces: readonly Piece[], honest: Uint8Array): Buffer {
  return Buffer.concat(pieces.map((each) => bytesOfPiece(each, honest)));
}

function bytesOfPiece(each: Piece, honest: Uint8Array): Buffer {
  switch (each.kind) {
    case "honest":
      return framed(honest);
    case "noise":
      return framed(each.bytes, each.flags);
    case "huge":
      return framed(Buffer.alloc(1000), 0, each.length);
  }
}

for (const [name, [schema, honest, ask]] of Object.entries(asks)) {
  const message = toBinary(schema, create(schema, honest));

  test(`${name} returns the agent's answer or an error, whatever the agent sends`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 6 }),
        fc.constantFrom("0", "2", "13", "x", undefined),
        async (pieces, status) => {
          raw.answer = { bytes: bytesOf(pieces, message), status };
          const heard = await ask().catch((error: unknown) => error);
          if (typeof heard === "number") {
            assert.equal(status, "0", "a success that was not said");
            assert.ok(!pieces.some(({ kind }) => kind === "huge"), "a message beyond all bounds");
            assert.equal(heard, pieces.length);
          } else {
            assert.ok(heard instanceof ConnectError, String(heard));
            assert.notEqual(fromUnknown(heard).message, "");
            assert.notEqual(heard.code, Code.DeadlineExceeded, "an answer that never ends");
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  test(`${name} does not wait for more than the limit, whatever length an agent announces`, async () => {
    raw.answer = { bytes: framed(Buffer.alloc(100), 0, messageLimit + 1), status: "0" };
    await assert.rejects(ask(), { code: Code.ResourceExhausted });
  });
}

/** Most fields that an agent may send in a message; two bytes each where they are empty. */
const fieldLimit = 65_536;
const empty = (tag: number): Buffer => Buffer.alloc(2 * fieldLimit, Buffer.from([tag, 0]));
const inField = (tag: number, content: Buffer): Buffer =>
  Buffer.concat([Buffer.from([tag, ...varint(content.length)]), content]);

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}

const manyFields: Readonly<Record<string, readonly [ask: string, message: Buffer]>> = {
  "rows of a table": ["Top", empty(0x12)],
  "columns of a row": ["Top", inField(0x12, empty(0x0a))],
  "block devices": ["Stats", empty(0x3a)],
  networks: ["Stats", empty(0x42)],
  "processors, packed": ["Stats", inField(0x1a, inField(0x12, Buffer.alloc(2 * fieldLimit)))],
  "kinds of memory": ["Stats", inField(0x22, empty(0x2a))],
  "ended execs": ["Watch", inField(0x12, empty(0x22))],
  "fields that nobody knows": ["Changes", empty(0x78)],
  "fields in groups": ["Changes", Buffer.concat([Buffer.from([0x7b]), empty(0x70), Buffer.from([0x7c])])],
};

for (const [what, [name, message]] of Object.entries(manyFields)) {
  test(`${name} is refused where it has too many ${what} to be decoded at once`, async () => {
    raw.answer = { bytes: framed(Buffer.concat([message, message])), status: "0" };
    await assert.rejects(async () => await asks[name]?.[2](), { code: Code.ResourceExhausted });
  });
}

test("a table of thousands of processes is read", async () => {
  const columns = Array.from({ length: 8 }, () => "x".repeat(40));
  const processes = Array.from({ length: 7_000 }, () => ({ columns }));
  const table = toBinary(TopResponseSchema, create(TopResponseSchema, { titles: columns, processes }));
  raw.answer = { bytes: framed(table), status: "0" };
  assert.equal((await agent.client.top({}, limited)).processes.length, 7_000);
});

test("any number of small messages leaves turns of the event loop to others", async () => {
  const beat = toBinary(
    WatchResponseSchema,
    create(WatchResponseSchema, { event: { case: "heartbeat", value: {} } }),
  );
  const messages = 10_000;
  raw.answer = { bytes: Buffer.alloc(messages * (beat.length + 5), framed(beat)), status: "0" };
  let turns = 0;
  let next = setImmediate(function turn() {
    turns += 1;
    next = setImmediate(turn);
  });
  try {
    assert.equal(await count(agent.client.watch({}, limited)), messages);
  } finally {
    clearImmediate(next);
  }
  assert.ok(turns > messages / 200, `${turns} turns`);
});

test("large messages of a stream come less and less often", async () => {
  const message = framed(inField(0x12, Buffer.alloc(20_000, Buffer.from([0x22, 0]))));
  raw.answer = { bytes: Buffer.concat(Array(5).fill(message)), status: "0" };
  const begun = performance.now();
  assert.equal(await count(agent.client.watch({}, limited)), 5);
  const tookMs = performance.now() - begun;
  assert.ok(tookMs > 1_200, `${tookMs} ms`);
});

test("large messages of many streams come one after the other, with time for others in between", async () => {
  const message = framed(inField(0x12, Buffer.alloc(80_000, Buffer.from([0x22, 0]))));
  raw.answer = { bytes: message, status: "0" };
  const heardMs: number[] = [];
  const streams = Array.from({ length: 20 }, async () => {
    for await (const _ of agent.client.watch({}, limited)) {
      heardMs.push(performance.now());
    }
  });
  await Promise.all(streams);
  const tookMs = Math.max(...heardMs) - Math.min(...heardMs);
  assert.ok(tookMs > 19 * 35, `20 in ${tookMs} ms`);
});

test("an archive ends once, and completely only if the agent said so, whatever it sends", async () => {
  const stat = toBinary(
    ArchiveGetResponseSchema,
    create(ArchiveGetResponseSchema, { message: { case: "stat", value: { name: "a" } } }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { maxLength: 6 }),
      fc.constantFrom("0", "2", "x", undefined),
      async (pieces, status) => {
        raw.answer = { bytes: bytesOf(pieces, stat), status };
        const ends: object[] = [];
        const over = Promise.withResolvers<void>();
        const end = (how: object): void => {
          ends.push(how);
          over.resolve();
        };
        await AgentStream.open(
          connection,
          archiveGetStream,
          { containerId: undefined, first: encodeArchiveGet({ path: "/a" }), carriesInput: false },
          { opened: () => {}, outputEnded: () => {}, data: () => {}, ended: end, failed: end },
        );
        await over.promise;
        await new Promise((resolve) => setImmediate(resolve));
        assert.equal(ends.length, 1);
        if (!pieces.some(({ kind }) => kind === "noise")) {
          // Noise may happen to say anything; all else may not be taken for an end.
          assert.ok("message" in (ends[0] ?? {}), JSON.stringify(ends[0]));
        }
      },
    ),
    { numRuns: 150 },
  );
});
