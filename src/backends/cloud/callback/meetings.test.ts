import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { describe, it } from "node:test";

import { Meetings } from "./meetings.ts";

describe("connections of an agent that is wanted by many", () => {
  const caller = { containerId: "c".repeat(64), pin: "a".repeat(64), start: undefined };
  const { signal } = new AbortController();

  it("are taken the latest first, as it was made for want of those before", async () => {
    const meetings = new Meetings({ called: () => {}, left: () => {} });
    const [first, last] = [new PassThrough(), new PassThrough()];
    for (const offer of [first, last]) {
      assert.equal(meetings.offer(caller, offer), undefined);
    }
    assert.equal(await meetings.want(caller, signal, "controls"), last);
    assert.equal(await meetings.want(caller, signal, "controls"), first);
  });

  it("go to those who have its control first, however long peers have waited", async () => {
    const meetings = new Meetings({ called: () => {}, left: () => {} });
    const order: string[] = [];
    const want = (who: "controls" | "peers", name: string): Promise<number> =>
      meetings.want(caller, signal, who).then(() => order.push(name));
    const all = [
      ...[1, 2, 3].map((n) => want("peers", `peer ${n}`)),
      ...[1, 2].map((n) => want("controls", `backend ${n}`)),
    ];
    for (const _each of all) {
      assert.equal(meetings.offer(caller, new PassThrough()), undefined);
    }
    await Promise.all(all);
    assert.deepEqual(order, ["backend 1", "backend 2", "peer 1", "peer 2", "peer 3"]);
  });
});

describe("connections of agents that nobody wants yet", () => {
  const callerOf = (pin: number, start: bigint | undefined, containerId = "c") => ({
    containerId: containerId.repeat(64),
    pin: String(pin),
    start,
  });
  const openedBy = (count: number, start: bigint | undefined, meetings: Meetings): PassThrough[] =>
    Array.from({ length: count }, (_each, pin) => {
      const connection = new PassThrough();
      meetings.offer(callerOf(pin, start), connection);
      return connection;
    });
  const alive = (connections: readonly PassThrough[]): number =>
    connections.filter(({ destroyed }) => !destroyed).length;

  it("are bounded in number without a token, and make none with one give way", () => {
    const meetings = new Meetings({ called: () => {}, left: () => {} });
    const agent = new PassThrough();
    meetings.offer(callerOf(1_000, 1n), agent);
    assert.equal(alive(openedBy(1_000, undefined, meetings)), 256);
    assert.ok(!agent.destroyed);
  });

  it("are bounded for each start, so that its container's token costs no other's", () => {
    const meetings = new Meetings({ called: () => {}, left: () => {} });
    const [later, other, stranger] = [new PassThrough(), new PassThrough(), new PassThrough()];
    meetings.offer(callerOf(1_000, 2n), later);
    meetings.offer(callerOf(1_000, 1n, "d"), other);
    meetings.offer(callerOf(1_001, undefined), stranger);
    assert.equal(alive(openedBy(1_000, 1n, meetings)), 8);
    assert.equal(alive([later, other, stranger]), 3);
  });
});
