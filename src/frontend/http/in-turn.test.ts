import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";

import type { ReplyContext } from "../request-context.ts";
import { inTurn } from "./in-turn.ts";

test("two answers of an endpoint are made at once, or more where they take over a second or have sizes", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const begun: PromiseWithResolvers<void>[] = [];
  const handle = inTurn(async () => {
    begun.push(Promise.withResolvers());
    await begun.at(-1)?.promise;
  });
  const ask = (query = "") => handle({ query: new URLSearchParams(query) } as ReplyContext);
  const answers = Array.from({ length: 6 }, () => ask());
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
  answers.push(ask("size=1"));
  await isBegun(7); // All turns are taken.
  for (const each of begun) {
    each.resolve();
  }
  await Promise.allSettled(answers);
});
