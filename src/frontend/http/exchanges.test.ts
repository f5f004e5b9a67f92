import assert from "node:assert/strict";
import { Socket } from "node:net";
import { test } from "node:test";

import { Exchanges } from "./exchanges.ts";

test("requests that outlast a shutdown are told to end only after it was told of them", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const exchanges = new Exchanges(10);
  const exchange = exchanges.begin(new Socket());
  const order: string[] = [];
  exchange.end.signal.addEventListener("abort", () => {
    order.push("ended");
    exchanges.finish(exchange);
  });
  const drained = exchanges.drain(() => order.push("outlasted"));
  t.mock.timers.tick(5000);
  await drained;
  assert.deepEqual(order, ["outlasted", "ended"]);
});

test("a shutdown without requests is told of none", async () => {
  await new Exchanges(10).drain(() => assert.fail("there are none"));
});
