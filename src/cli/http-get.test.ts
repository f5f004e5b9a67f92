import assert from "node:assert/strict";
import { Agent, createServer } from "node:http";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { listenDuring } from "../../test/support/listen-here.ts";
import { connectionTo, get } from "./http-get.ts";

describe("a request of a command", () => {
  it("waits for as long as the peer takes where no timeout is given", async (t) => {
    const server = createServer(async (_request, response) => {
      await delay(200);
      response.end("late");
    });
    const port = await listenDuring(t, server);
    const agent = new Agent({ timeout: 20 }); // Node's own has one of 5 s.
    const to = { ...connectionTo(`tcp://127.0.0.1:${port}`), agent };
    assert.deepEqual(await get("the daemon", { ...to, path: "/" }), { status: 200, body: "late" });
    await assert.rejects(get("the daemon", { ...to, path: "/", timeout: 50 }), {
      message: "the daemon does not answer: no answer within 0.05 s",
    });
  });
});
