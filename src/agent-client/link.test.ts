import assert from "node:assert/strict";
import { once } from "node:events";
import { type Duplex, duplexPair } from "node:stream";
import { describe, it } from "node:test";

import { AgentGoneError, Link } from "./link.ts";

describe("a connection that was cut", () => {
  /** A link whose first carrier is there and whose next ones are not. */
  const openLink = async (
    refusal: Error,
    limitMs?: number,
  ): Promise<{ readonly link: Link; readonly agent: Duplex }> => {
    const [carrier, agent] = duplexPair();
    const carriers = [carrier];
    const connect = async (): Promise<Duplex> => {
      const next = carriers.shift();
      if (next === undefined) {
        throw refusal;
      }
      return next;
    };
    return { link: await Link.open(connect, limitMs === undefined ? {} : { limitMs }), agent };
  };

  it("ends with an error after its limit", async () => {
    const { link, agent } = await openLink(new Error("nobody is there"), 1);
    const failed = once(link, "error");
    agent.destroy();
    assert.match(String((await failed)[0]), /the connection to the agent was cut: nobody is there/);
  });

  it("ends at once where the agent is gone for good", async () => {
    const { link, agent } = await openLink(new AgentGoneError("its task has ended"));
    const failed = once(link, "error");
    agent.destroy();
    assert.match(String((await failed)[0]), /its task has ended/);
  });

  it("ends with an error where the agent tells of bytes that it was not sent", async () => {
    const { link, agent } = await openLink(new Error("nobody is there"));
    const failed = once(link, "error");
    const frame = Buffer.alloc(12);
    frame.writeBigUInt64BE(1n);
    agent.write(frame);
    assert.match(String((await failed)[0]), /bytes that it was not sent/);
  });
});
