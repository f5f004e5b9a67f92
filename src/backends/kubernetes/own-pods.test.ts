import assert from "node:assert/strict";
import { link, mkdtemp, readFile, rm } from "node:fs/promises";
import type { RequestListener } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { V1Pod } from "@kubernetes/client-node";

import { ManualClock } from "../../common/manual-clock.ts";
import type { CloudTasks } from "../cloud/contract/cloud-tasks.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import { refuseOtherPlace } from "./own-pods.ts";
import { podTasks } from "./pods/pods.ts";
import { PodWatch } from "./pods/pod-watch.ts";
import { standIn } from "./testing/stand-in.ts";

const task = "sockerless-cccccccccccc-1/uid";

describe("a place without the pods of a state", () => {
  let directory: string;
  let file: string;
  let changes: string[];
  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "sockerless-own-pods-"));
    file = path.join(directory, "own-pods");
    changes = [];
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** Has a backend that has begun do something. @param namespace its UID, or the status of a refusal */
  async function begun<T>(
    namespace: string | number,
    {
      hasRunning = true,
      instance = "sockerless/0123456789abcdef",
      server = "https://one",
      pods = [],
      listed = 200,
    }: {
      readonly hasRunning?: boolean;
      readonly instance?: string | undefined;
      readonly server?: string;
      readonly pods?: readonly V1Pod[];
      /** The status of the list of pods. */
      readonly listed?: number;
    },
    act: (tasks: CloudTasks) => Promise<T>,
  ): Promise<T | string> {
    const answer: RequestListener = (request, response) => {
      const isList = request.url?.startsWith("/api/v1/namespaces/docker/pods") === true;
      if (request.method !== "GET") {
        changes.push(`${request.method} ${request.url}`);
        response.writeHead(404, { "content-type": "application/json" });
        response.end(JSON.stringify({ kind: "Status", code: 404, message: "no such pod" }));
        return;
      }
      const status = isList ? listed : typeof namespace === "number" ? namespace : 200;
      const there = isList
        ? { items: pods, metadata: { resourceVersion: "1" } }
        : { metadata: { name: "docker", uid: namespace } };
      const body = status === 200 ? there : { kind: "Status", code: status, message: "no" };
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const clock = new ManualClock();
    await using there = await standIn(answer, clock);
    const { client } = there;
    const watch = new PodWatch({
      ...{ client, clock, logger: capturedLogger().logger, selector: "", changed: () => {} },
      refuse: (found) => {
        const { call, core, namespace: name } = client;
        const running = () => (hasRunning ? [task] : []);
        const place = { call, core, namespace: name, server };
        return refuseOtherPlace({ client: place, instance, file, running }, found);
      },
    });
    try {
      return await act(podTasks({ client, watch }));
    } catch (error) {
      return String(error);
    } finally {
      client.abandon();
      await watch.close();
    }
  }

  /** Looks for a pod. */
  const look = (namespace: string | number, hasRunning: boolean, instance?: string): Promise<string> =>
    begun(namespace, { hasRunning, instance }, async (tasks) => {
      const { missing } = await tasks.describe([task], AbortSignal.timeout(5_000));
      assert.deepEqual(missing, [task]);
      return "missing";
    });

  it("tells nothing of those that run if it is another namespace", async () => {
    assert.equal(await look("one", true), "missing");
    for (const other of ["two", 404]) {
      assert.match(await look(other, true), /run in another namespace than docker at http/);
    }
    assert.equal(await look("one", true), "missing");
  });

  it("is told to be another one where its pods may not be listed", async () => {
    assert.equal(await look("one", true), "missing");
    const listless = (namespace: string) =>
      begun(namespace, { listed: 403 }, (tasks) => tasks.describe([task], AbortSignal.timeout(5_000)));
    assert.match(String(await listless("two")), /run in another namespace than docker at http/);
    assert.match(String(await listless("one")), /list pods: no/);
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
    for (const refusal of [401, 403, 405]) {
      assert.equal(await look(refusal, true), "missing", String(refusal));
    }
    const former = path.join(directory, "former");
    await link(file, former);
    assert.equal(await look("two", false), "missing");
    assert.match(await readFile(former, "utf8"), /^one /, "it is replaced as a whole");
    assert.match(await look("one", true), /another namespace/);
  });

  it("is told apart by its server and name where it may not be read", async () => {
    const at = (namespace: string | number, server: string, hasRunning = true) =>
      begun(namespace, { hasRunning, server }, async (tasks) => {
        const { missing } = await tasks.describe([task], AbortSignal.timeout(5_000));
        return missing.join();
      });
    for (const namespace of ["one", 403]) {
      await rm(file, { force: true });
      assert.equal(await at(namespace, "https://one"), task);
      assert.match(
        String(await at(403, "https://two")),
        /run in another namespace than docker at https:\/\/two/,
      );
      assert.equal(await at(403, "https://one"), task);
      assert.equal(await at("one", "https://one"), task);
    }
    assert.equal(await at(403, "https://two", false), task);
    assert.equal(await at("two", "https://two"), task, "of another place no UID is kept");
    assert.equal(await at("two", "https://three"), task, "a UID tells more than a server");
  });

  it("is theirs, made anew and behind another server, where it has a pod of theirs", async () => {
    const pod = {
      metadata: {
        name: "sockerless-cccccccccccc-1",
        uid: "uid",
        annotations: { "sockerless/container-id": "c".repeat(64), "sockerless/generation": "1" },
      },
    };
    assert.equal(await look("one", true), "missing");
    for (const [namespace, server] of [
      ["two", "https://one"],
      [403, "https://two"],
    ] as const) {
      assert.match(
        String(await begun(namespace, { server }, (tasks) => tasks.listOwn())),
        /another namespace/,
      );
      const there = { server, pods: [pod] };
      assert.deepEqual(await begun(namespace, there, (tasks) => tasks.listOwn()), [task]);
      assert.deepEqual(await begun(namespace, { server }, (tasks) => tasks.listOwn()), []);
    }
  });

  it("starts none there, and tells why at once", async () => {
    assert.equal(await look("one", true), "missing");
    for (const [uid, other, told] of [
      ["two", {}, /run in another namespace/],
      ["one", { instance: "sockerless/other" }, /know another authority/],
    ] as const) {
      const answer = await begun(uid, other, (tasks) => tasks.run("{}", AbortSignal.timeout(5_000)));
      assert.ok(typeof answer === "object" && "reason" in answer, String(answer));
      assert.match(answer.reason, told);
      assert.equal(answer.prospect, "lasts");
      assert.deepEqual(changes, []);
    }
  });

  it("starts some while the watch is broken, as it may be for a moment", async () => {
    const answer = await begun(500, {}, (tasks) => tasks.run("{}", AbortSignal.timeout(5_000)));
    assert.ok(typeof answer === "object" && "reason" in answer, String(answer));
    assert.match(answer.reason, /^create pods: no such pod/);
    assert.equal(changes.length, 1);
  });

  it("has none of them stopped that another namespace does not have, until the file is deleted", async () => {
    const stop = (namespace: string, instance?: string) =>
      begun(namespace, { instance }, async (tasks) => {
        await tasks.stop(task, "its container is removed");
        return "stopped";
      });
    assert.equal(await look("one", true), "missing");
    assert.match(await stop("two"), /another namespace .* delete .*own-pods: the containers have ended/);
    assert.match(await stop("two", "sockerless/other"), /another namespace/);
    await begun("two", {}, (tasks) =>
      assert.rejects(tasks.stop(task, "it is removed"), { kind: "system" }),
    ).then((failure) => assert.equal(failure, undefined, "a conflict is a container that has ended"));
    assert.equal(await stop("one", "sockerless/other"), "stopped");
    await rm(file);
    assert.equal(await stop("two"), "stopped");
    assert.equal(await look("two", true), "missing");
    assert.equal(changes.length, 5);
  });
});
