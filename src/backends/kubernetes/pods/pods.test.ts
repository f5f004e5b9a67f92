import assert from "node:assert/strict";
import type { RequestListener } from "node:http";
import { hostname } from "node:os";
import { describe, it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { standIn } from "../testing/stand-in.ts";
import { podTasks } from "./pods.ts";
import { PodWatch } from "./pod-watch.ts";

describe("pods whose end makes room", () => {
  it("are those that run, but for the backend's own", async () => {
    const running = [hostname()];
    const answer: RequestListener = (request, response) => {
      const asked = new URL(request.url ?? "", "http://localhost").searchParams.get("fieldSelector") ?? "";
      const [, left] = /metadata\.name!=(.+)$/.exec(asked) ?? [];
      const items = running.filter((name) => name !== left).map((name) => ({ metadata: { name } }));
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ items }));
    };
    await using server = await standIn(answer, new ManualClock());
    const { client } = server;
    const tasks = podTasks({ client, watch: {} as PodWatch });
    assert.equal(await tasks.isAnyRunning(), true);
    Object.defineProperty(client, "isInCluster", { value: true });
    assert.equal(await tasks.isAnyRunning(), false);
    running.push("another");
    assert.equal(await tasks.isAnyRunning(), true);
  });
});

describe("a look at pods", () => {
  it("is refused where a right is missing, not where the credentials are not taken for a while", async () => {
    for (const [status, isRefused] of [
      [401, false],
      [403, true],
    ] as const) {
      const answer: RequestListener = (_request, response) => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify({ kind: "Status", code: status, message: "no" }));
      };
      const clock = new ManualClock();
      await using server = await standIn(answer, clock);
      const { client } = server;
      const { logger } = capturedLogger();
      const watch = new PodWatch({ client, clock, logger, selector: "", changed: () => {} });
      const look = podTasks({ client, watch }).describe(["pod/uid"], AbortSignal.timeout(5_000));
      await assert.rejects(look, (error) => isRefusal(error) === isRefused);
      client.abandon();
      await watch.close();
    }
  });
});
