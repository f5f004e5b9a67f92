import assert from "node:assert/strict";
import { test } from "node:test";

import { ManualClock } from "../../../../common/manual-clock.ts";
import type { IssuedCertificate } from "../../../driver/agents.ts";
import { GivenCertificates } from "./given-certificates.ts";

test("certificates are renewed for the key that they were issued for, and stay where that fails", async () => {
  const clock = new ManualClock();
  const { signal } = new AbortController();
  const given = new GivenCertificates();
  let isFailing = false;
  const made = (value: number): IssuedCertificate => ({
    chain: [new Uint8Array([value])],
    renewedFromMs: clock.nowMs() + 30,
    goodUntilMs: clock.nowMs() + 60,
  });
  const issue = (): Promise<IssuedCertificate> =>
    isFailing ? Promise.reject(new Error("no")) : Promise.resolve(made(clock.nowMs() === start ? 1 : 2));
  const refuse = (): Promise<IssuedCertificate> => Promise.reject(new Error("not a key"));
  const start = clock.nowMs();
  const value = async (): Promise<number | undefined> =>
    (await given.complete(["one"], clock.nowMs(), refuse, signal)).get("one")?.chain[0]?.[0];

  await given.complete(["one"], clock.nowMs(), issue, signal);
  assert.equal(await value(), 1);
  await clock.advance(30);
  isFailing = true;
  await given.renew(clock, signal);
  assert.equal(await value(), 1);
  isFailing = false;
  await given.renew(clock, signal);
  assert.equal(await value(), 2);
});
