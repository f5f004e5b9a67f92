import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { watched } from "./agent-log.ts";

describe("an agent that sends its log", () => {
  async function* agent(silence: Promise<void>): AsyncGenerator<string> {
    yield "first";
    yield "second";
    await silence;
  }

  it("is silent when nothing comes, and not while its reader takes its time", async ({ mock }) => {
    mock.timers.enable({ apis: ["setInterval"] });
    const silence = Promise.withResolvers<void>();
    let silences = 0;
    let isCut = false;
    const messages = watched(
      agent(silence.promise),
      () => isCut,
      () => {
        silences += 1;
        silence.resolve();
      },
    );
    for (const message of ["first", "second"]) {
      assert.deepEqual(await messages.next(), { value: message, done: false });
      mock.timers.tick(60_000);
      assert.equal(silences, 0);
    }
    const end = messages.next();
    await new Promise(setImmediate);
    isCut = true;
    mock.timers.tick(60_000);
    assert.equal(silences, 0, "its link is cut, and may resume");
    isCut = false;
    mock.timers.tick(29_999);
    assert.equal(silences, 0);
    mock.timers.tick(1);
    assert.equal((await end).done, true);
    assert.equal(silences, 1);
  });
});
