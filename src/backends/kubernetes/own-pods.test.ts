import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import type { RequestListener } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";

import { ManualClock } from "../../common/manual-clock.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import { refuseOthersPods } from "./own-pods.ts";
import { podTasks } from "./pods/pods.ts";
import { PodWatch } from "./pods/pod-watch.ts";
import { standIn } from "./testing/stand-in.ts";

const task = "sockerless-cccccccccccc-1/uid";

describe("a place without the pods of a state", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "sockerless-namespace-"));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** Looks for a pod as a backend that has begun. @param namespace its UID, or the status of a refusal */
  async function look(
    namespace: string | number,
    hasRunning: boolean,
    instance = "sockerless/0123456789abcdef",
  ): Promise<"missing" | string> {
    const answer: RequestListener = (request, response) => {
      const isList = request.url?.startsWith("/api/v1/namespaces/docker/pods") === true;
      const refusal = typeof namespace === "number" && !isList ? namespace : undefined;
      const body = isList
        ? { items: [], metadata: { resourceVersion: "1" } }
        : refusal === undefined
          ? { metadata: { name: "docker", uid: namespace } }
          : { kind: "Status", code: refusal, message: "no" };
      response.writeHead(refusal ?? 200, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const clock = new ManualClock();
    await using server = await standIn(answer, clock);
    const { client } = server;
    const watch = new PodWatch({
      ...{ client, clock, logger: capturedLogger().logger, selector: "", changed: () => {} },
      refuse: () =>
        refuseOthersPods({
          ...{ client, instance },
          file: path.join(directory, "namespace"),
          hasRunning: () => hasRunning,
        }),
    });
    try {
      const { missing } = await podTasks({ client, watch }).describe([task], AbortSignal.timeout(5_000));
      assert.deepEqual(missing, [task]);
      return "missing";
    } catch (error) {
      return String(error);
    } finally {
      client.abandon();
      await watch.close();
    }
  }

  it("tells nothing of those that run if it is another namespace", async () => {
    assert.equal(await look("one", true), "missing");
    for (const other of ["two", 404]) {
      assert.match(await look(other, true), /run in another namespace than docker at http/);
    }
    assert.equal(await look("one", true), "missing");
  });

  it("tells nothing of them to another instance, also where it may not be read", async () => {
    for (const namespace of [403, "one"]) {
      assert.equal(await look(namespace, true), "missing");
      assert.match(await look(namespace, true, "sockerless/other"), /know another authority: set kubernetes/);
      assert.equal(await look(namespace, true), "missing");
    }
    assert.equal(await look("one", false, "sockerless/other"), "missing");
    assert.match(await look("one", true), /another authority/);
  });

  it("is theirs where none runs, and where it may not be read", async () => {
    assert.equal(await look("one", true), "missing");
    assert.equal(await look(403, true), "missing");
    assert.equal(await look("two", false), "missing");
    assert.match(await look("one", true), /another namespace/);
  });
});
