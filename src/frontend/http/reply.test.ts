import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { replyLongJson, stringifyJson } from "./reply.ts";

/** The answer with a value, and how often other work was done before it. */
async function answered(value: object): Promise<{ readonly text: string; readonly turns: number }> {
  let turns = 0;
  const server = createServer(async (_request, response) => {
    let isOver = false;
    const other = (): void => {
      turns += 1;
      if (!isOver) {
        setImmediate(other);
      }
    };
    other();
    await replyLongJson(response, value);
    isOver = true;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    return { text: await response.text(), turns };
  } finally {
    server.close();
  }
}

test("a long answer is the same as a short one, and others are served between its parts", async () => {
  const list = Array.from({ length: 100 }, (_, index) => ({
    index,
    size: 2n ** 60n,
    text: "x".repeat(30_000),
  }));
  const object = { list, none: undefined, nothing: null, empty: [], text: "a" };
  const written = await answered({ list: list.values() });
  assert.equal(written.text, `${stringifyJson({ list })}\n`);
  assert.ok(written.turns > 5);
  for (const value of [list, object, [], {}]) {
    assert.equal((await answered(value)).text, `${stringifyJson(value)}\n`);
  }
  assert.ok((await answered(list)).turns > 5);
});
