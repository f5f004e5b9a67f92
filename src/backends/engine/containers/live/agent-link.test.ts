import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { HelloResponseSchema } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { AgentLink } from "./agent-link.ts";

/** A link to an agent with a key, and how often it was asked. */
function linkTo(partnerKey: Uint8Array): { link: AgentLink; asked: () => number } {
  const link = new AgentLink({ kind: "unix", path: "/nowhere" }, 1n, { containerId: "c" });
  let asked = 0;
  link.agent.client.hello = async () => {
    asked += 1;
    return create(HelloResponseSchema, { partnerKey });
  };
  return { link, asked: () => asked };
}

test("an agent's key is kept for its run, and refused if it is long", async () => {
  const { link, asked } = linkTo(new Uint8Array(91));
  assert.equal(await link.partnerKey({}), await link.partnerKey({}));
  assert.equal(asked(), 1);
  await assert.rejects(linkTo(new Uint8Array(20_000)).link.partnerKey({}), /too long a key/);
});

test("an agent's key keeps nothing of the message that it came in", async () => {
  const { link } = linkTo(new Uint8Array(1_000_000).subarray(0, 91));
  assert.equal((await link.partnerKey({})).buffer.byteLength, 91);
});
