/** An agent is not trusted: whatever it sends, a stream ends once, and as a success only where it said so. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";

import { RawAgent } from "../../test/support/raw-agent.ts";
import { SessionResponseSchema } from "../gen/sockerless/agent/v1/agent_pb.ts";
import { AgentStream, type Outcome, type StreamFailure } from "./agent-stream.ts";
import { AgentConnection } from "./connection.ts";
import { encodeOpenExec, sessionStream } from "./session.ts";

const raw = new RawAgent();
let connection: AgentConnection;

before(async () => {
  await raw.listen();
  connection = new AgentConnection({ address: raw.address });
});
after(async () => {
  connection.close();
  await raw.close();
});

type Piece =
  | { readonly kind: "started" | "beat" }
  | { readonly kind: "output"; readonly size: number; readonly shift: number }
  | { readonly kind: "exit"; readonly code: number }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "huge"; readonly length: number };

const piece: fc.Arbitrary<Piece> = fc.oneof(
  fc.constant<Piece>({ kind: "started" }),
  fc.constant<Piece>({ kind: "beat" }),
  fc.record({
    kind: fc.constant("output" as const),
    size: fc.integer({ min: 1, max: 100 }),
    shift: fc.oneof(fc.constant(0), fc.integer({ min: -5, max: 5 })),
  }),
  fc.record({ kind: fc.constant("exit" as const), code: fc.integer({ min: 0, max: 255 }) }),
  fc.record({ kind: fc.constant("bytes" as const), bytes: fc.uint8Array({ maxLength: 40 }) }),
  fc.record({ kind: fc.constant("huge" as const), length: fc.integer({ min: 5_000_000, max: 0xffffffff }) }),
);

function framed(value: MessageInitShape<typeof SessionResponseSchema>): Buffer {
  const message = toBinary(SessionResponseSchema, create(SessionResponseSchema, value));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** The bytes of the pieces, and what an honest reading of them is; undefined where only a failure is honest. */
function tell(pieces: readonly Piece[]): {
  bytes: Buffer;
  honest: { code: number; received: number } | undefined;
} {
  const parts: Buffer[] = [];
  let offset = 0;
  let honest: { code: number; received: number } | undefined;
  let isBroken = false;
  let isStarted = false;
  for (const each of pieces) {
    switch (each.kind) {
      case "started":
        parts.push(framed({ message: { case: "started", value: { pid: 1n } } }));
        isBroken ||= isStarted;
        isStarted = true;
        break;
      case "beat":
        parts.push(framed({ message: { case: "heartbeat", value: {} } }));
        break;
      case "output": {
        const at = BigInt(Math.max(0, offset + each.shift));
        isBroken ||= at !== BigInt(offset);
        const data = new Uint8Array(each.size);
        parts.push(framed({ message: { case: "stdout", value: { offset: at, data } } }));
        offset += each.size;
        break;
      }
      case "exit":
        parts.push(framed({ message: { case: "exit", value: { code: each.code } } }));
        if (!isBroken) {
          honest ??= { code: each.code, received: offset };
        }
        break;
      case "bytes":
        parts.push(Buffer.from(each.bytes));
        isBroken ||= each.bytes.length > 0;
        break;
      case "huge": {
        const prefix = Buffer.alloc(5);
        prefix.writeUInt32BE(each.length, 1);
        parts.push(prefix);
        isBroken = true;
        break;
      }
    }
  }
  return { bytes: Buffer.concat(parts), honest };
}

async function hear(): Promise<{ ends: (Outcome | StreamFailure)[]; received: number }> {
  const ends: (Outcome | StreamFailure)[] = [];
  let received = 0;
  const over = Promise.withResolvers<void>();
  const end = (how: Outcome | StreamFailure): void => {
    ends.push(how);
    over.resolve();
  };
  await AgentStream.open(
    connection,
    sessionStream,
    { containerId: undefined, first: encodeOpenExec({ execId: "e" }), carriesInput: false },
    {
      opened: () => assert.equal(ends.length, 0, "nothing comes after the end"),
      outputEnded: () => assert.fail("sessions have no such end"),
      data: (_channel, _source, start, stop) => {
        assert.equal(ends.length, 0, "nothing comes after the end");
        received += stop - start;
      },
      ended: end,
      failed: end,
    },
  );
  await over.promise;
  await new Promise((resolve) => setImmediate(resolve));
  return { ends, received };
}

test("whatever an agent answers, a stream ends once, and never with a code that was not said", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { maxLength: 8 }),
      fc.constantFrom("0", "2", "13", "x", undefined),
      async (pieces, status) => {
        const { bytes, honest } = tell(pieces);
        raw.answer = { bytes, status };
        const { ends, received } = await hear();
        assert.equal(ends.length, 1);
        const [end] = ends;
        if (honest !== undefined) {
          assert.deepEqual([end, received], [{ kind: "exit", exitCode: honest.code }, honest.received]);
        } else if (!pieces.some((each) => each.kind === "bytes")) {
          // Arbitrary bytes may happen to say anything; all else may not be taken for an end.
          assert.ok(end !== undefined && "message" in end, JSON.stringify(end));
        }
      },
    ),
    { numRuns: 300 },
  );
});
