import assert from "node:assert/strict";
import { test } from "node:test";

import { unavailable } from "../../common/errors.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { openAttachment } from "./attach-stream.ts";
import { PendingStarts } from "./pending-starts.ts";

test("an attachment tries its start's agent ever less often while that is away, and ends with the start", async () => {
  const clock = new ManualClock();
  const pendingStarts = new PendingStarts();
  let tries = 0;
  const open = () => {
    tries += 1;
    return { opened: Promise.reject(unavailable("the agent is away")), cancel: () => {} };
  };
  const services = { clock, pendingStarts, streams: { open }, agents: { targetOf: () => ({}) } };
  const context = { services, signal: new AbortController().signal };
  const accepted = { id: "c".repeat(64), tty: false, openStdin: false, running: false };
  const attachment = { accepted, endpoint: async () => ({ attachId: "a" }), cancel: () => {} };
  const wanted = { stdin: false, stdout: true, stderr: true, logs: false, stream: true };
  const start = pendingStarts.begin("web");
  type Opening = Parameters<typeof openAttachment>;
  const opening = openAttachment(context as unknown as Opening[0], attachment as unknown as Opening[1], {
    name: "web",
    wanted,
    framing: "raw",
    detachKeys: new Uint8Array(),
  });
  opening.catch(() => {});
  await clock.advance(0);
  assert.equal(tries, 1);
  await clock.advance(1_000);
  assert.equal(tries, 3);
  await clock.advance(60_000);
  assert.ok(tries < 40, `${tries} tries within a minute`);
  start[Symbol.dispose]();
  await clock.advance(2_000);
  await assert.rejects(opening, /the agent is away/);
});
