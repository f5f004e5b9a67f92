import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { test } from "node:test";

import { type StrangerNews, Strangers } from "./strangers.ts";
import { listenHere } from "../../test/support/listen-here.ts";

test("a stranger who stays is cut after fifteen seconds, whatever he sends meanwhile", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const listener = createServer();
  t.after(() => listener.close());
  new Strangers(() => {}).guard(listener);
  const port = await listenHere(listener);
  const connected = once(listener, "connection");
  const stranger = connect(port, "127.0.0.1").on("error", () => {});
  const closed = once(stranger.resume(), "close");
  await connected;
  stranger.write(Buffer.of(0x16, 3, 1));
  t.mock.timers.tick(14_999);
  assert.equal(await connectionsOf(listener), 1);
  t.mock.timers.tick(1);
  await closed;
  assert.equal(await connectionsOf(listener), 0);
});

test("ten refusals a minute are reported one by one, the others as a number", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const told: StrangerNews[] = [];
  const strangers = new Strangers((news) => told.push(news));
  for (let n = 0; n < 25; n++) {
    strangers.turnAway(`10.0.0.1 ${n}`, "it is no agent");
  }
  assert.equal(told.length, 10);
  t.mock.timers.tick(60_000);
  assert.deepEqual(told.at(-1), { kind: "turned-away", remote: "", reason: "15 more within a minute" });
});

function connectionsOf(listener: ReturnType<typeof createServer>): Promise<number> {
  return new Promise((resolve, reject) =>
    listener.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
  );
}
