import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";

import type { ReplyContext } from "../request-context.ts";
import { inTurn } from "./in-turn.ts";

test("two answers of an endpoint are made at once, or more where they take over a second", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const begun: PromiseWithResolvers<void>[] = [];
  const handle = inTurn(async () => {
    begun.push(Promise.withResolvers());
    await begun.at(-1)?.promise;
  });
  const answers = Array.from({ length: 6 }, () => handle({} as ReplyContext));
  const isBegun = async (count: number) => {
    await turn();
    assert.equal(begun.length, count);
  };
  await isBegun(2);
  begun[0]?.resolve();
  await isBegun(3);
  begun[1]?.reject(new Error("no backend"));
  await assert.rejects(answers[1] ?? Promise.resolve(), /no backend/);
  await isBegun(4);
  t.mock.timers.tick(1_000);
  await isBegun(6);
  begun[2]?.resolve();
  await isBegun(6);
  for (const each of begun) {
    each.resolve();
  }
  await Promise.allSettled(answers);
});
