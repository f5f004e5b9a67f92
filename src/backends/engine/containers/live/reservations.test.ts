import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Reservations } from "./reservations.ts";

const address = { kind: "unix", path: "/run/agent.sock" } as const;
const never = new AbortController().signal;

describe("reservations of attachments", () => {
  it("are told the address when the start knows it, and awaited by it", async () => {
    const reservations = new Reservations();
    const first = reservations.reserve(never);
    assert.deepEqual(reservations.ids(), [first.attachId]);
    reservations.serve(address);
    assert.deepEqual(await first.address, address);
    const late = reservations.reserve(never);
    assert.deepEqual(await late.address, address);
    assert.deepEqual(reservations.ids(), [first.attachId, late.attachId]);
    reservations.end();
    assert.deepEqual(reservations.ids(), []);
  });

  it("are forgotten when their client leaves, and told why a start failed", async () => {
    const reservations = new Reservations();
    const leaving = new AbortController();
    const left = reservations.reserve(leaving.signal);
    const stays = reservations.reserve(never);
    leaving.abort(new Error("left"));
    await assert.rejects(left.address, /left/);
    assert.deepEqual(reservations.ids(), [stays.attachId]);
    reservations.fail(new Error("no start"));
    await assert.rejects(stays.address, /no start/);
    const next = reservations.reserve(never);
    assert.deepEqual(reservations.ids(), [next.attachId]);
  });
});
