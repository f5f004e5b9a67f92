import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { HelloResponseSchema } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { AgentLink } from "./agent-link.ts";

/** A link to an agent that answers so, and how often it was asked. */
function linkTo(answer: MessageInitShape<typeof HelloResponseSchema>): {
  link: AgentLink;
  asked: () => number;
} {
  const link = new AgentLink({ kind: "unix", path: "/nowhere" }, 1n, { containerId: "c" });
  let asked = 0;
  link.agent.client.hello = async () => {
    asked += 1;
    return create(HelloResponseSchema, answer);
  };
  return { link, asked: () => asked };
}

test("what an agent tells of itself is kept for its run, and refused if it is long", async () => {
  const features = Array.from({ length: 50 }, (_, index) => `feature-${index}`);
  const { link, asked } = linkTo({ version: "1.0.0", features, partnerKey: new Uint8Array(91) });
  assert.equal((await link.hello({})).version, "1.0.0");
  assert.equal(await link.hello({}), await link.hello({}));
  assert.equal(asked(), 1);
  for (const long of [{ version: "1".repeat(20_000) }, { partnerKey: new Uint8Array(20_000) }]) {
    await assert.rejects(linkTo(long).link.hello({}), /says too much about itself/);
  }
});

test("an agent's key keeps nothing of the message that it came in", async () => {
  const { link } = linkTo({ partnerKey: new Uint8Array(1_000_000).subarray(0, 91) });
  assert.equal((await link.hello({})).partnerKey.buffer.byteLength, 91);
});
