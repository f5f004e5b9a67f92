import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { RestartPolicySchema } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { restarts, restartsAtBoot } from "./restart-policy.ts";

const policy = (name: string, maximumRetryCount = 0) =>
  create(RestartPolicySchema, { name, maximumRetryCount });
const exit = { code: 1, stoppedByUser: false, restartCount: 0 };

describe("a container that a user has sent a signal which was not to end it", () => {
  it("is started again by every policy but unless-stopped", () => {
    const signalled = { ...exit, signalledByUser: true };
    assert.equal(restarts(policy("always"), signalled), true);
    assert.equal(restarts(policy("on-failure"), signalled), true);
    assert.equal(restarts(policy("unless-stopped"), signalled), false);
  });
});

describe("when the backend starts", () => {
  it("what a user has stopped is started by always, and by on-failure where it failed", () => {
    const stopped = { code: 137, signalledByUser: true, restartCount: 0 };
    assert.equal(restartsAtBoot(policy("always"), stopped), true);
    assert.equal(restartsAtBoot(policy("unless-stopped"), stopped), false);
    assert.equal(restartsAtBoot(policy("on-failure"), stopped), true);
    assert.equal(restartsAtBoot(policy("on-failure"), { ...stopped, code: 0 }), false);
    assert.equal(restartsAtBoot(policy("on-failure", 2), { ...stopped, restartCount: 2 }), false);
    assert.equal(restartsAtBoot(policy("no"), stopped), false);
    assert.equal(restartsAtBoot(undefined, stopped), false);
  });
});
