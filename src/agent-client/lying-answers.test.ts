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
