import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { HelloResponseSchema } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { AgentLink } from "./agent-link.ts";

/** How often an agent is asked about itself that is needed twice. */
async function questions(answer: MessageInitShape<typeof HelloResponseSchema>): Promise<number> {
  const link = new AgentLink({ kind: "unix", path: "/nowhere" }, 1n, { containerId: "c" });
  let asked = 0;
  link.agent.client.hello = async () => {
    asked += 1;
    return create(HelloResponseSchema, answer);
  };
  assert.equal((await link.hello({})).version, answer.version);
  assert.equal((await link.hello({})).version, answer.version);
  return asked;
}

test("what an agent tells of itself is kept for its run, unless it is long", async () => {
  const features = Array.from({ length: 50 }, (_, index) => `feature-${index}`);
  assert.equal(await questions({ version: "1.0.0", features, partnerKey: new Uint8Array(91) }), 1);
  assert.equal(await questions({ version: "1".repeat(20_000) }), 2);
  assert.equal(await questions({ version: "1.0.0", partnerKey: new Uint8Array(20_000) }), 2);
});

test("an agent's key keeps nothing of the message that it came in", async () => {
  const link = new AgentLink({ kind: "unix", path: "/nowhere" }, 1n, { containerId: "c" });
  link.agent.client.hello = async () =>
    create(HelloResponseSchema, { partnerKey: new Uint8Array(1_000_000).subarray(0, 91) });
  assert.equal((await link.hello({})).partnerKey.buffer.byteLength, 91);
});
