import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import type { ServerResponse } from "node:http";
import { describe, it } from "node:test";

import {
  KubeConfig,
  type V1ContainerState,
  type V1ContainerStatus,
  type V1Pod,
} from "@kubernetes/client-node";

import { ManualClock } from "../../../common/manual-clock.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import { hasEnded } from "../../cloud/contract/cloud-tasks.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import type { KubernetesClient } from "../api/client.ts";
import { podNameOf } from "../names.ts";
import { standIn } from "../testing/stand-in.ts";
import { viewOf } from "./pod-view.ts";
import { podTasks } from "./pods.ts";
import { PodWatch } from "./pod-watch.ts";

const made: V1Pod = { metadata: { name: "sockerless-cccccccccccc-1", uid: "uid" } };
const id = "c".repeat(64);
const task = "sockerless-cccccccccccc-1/uid";

describe("pods that are watched", () => {
  for (const isNotedBefore of [true, false]) {
    const when = isNotedBefore ? "before" : "while";
    it(`count as ${isNotedBefore ? "" : "not "}deleted if a list lacks them that were noted ${when} it was made`, async () => {
      const parts = {
        config: new KubeConfig(),
        async *pages() {
          if (!isNotedBefore) {
            watch.note(made);
          }
          yield { items: [], metadata: { resourceVersion: "1" } };
        },
      };
      const watch: PodWatch = new PodWatch({
        client: parts as unknown as KubernetesClient,
        selector: "",
        changed: () => {},
        clock: new ManualClock(),
        logger: capturedLogger().logger,
      });
      if (isNotedBefore) {
        watch.note(made);
      }
      const pods = await watch.pods(AbortSignal.timeout(5_000));
      assert.equal(pods.get(task)?.deleted, isNotedBefore);
      await watch.close();
    });
  }

  it("are kept as far as they are read, whatever is in their description", async () => {
    const paths = Array.from({ length: 4_096 }, (_, at) => `/${at}/${"x".repeat(100)}`);
    const listed: V1Pod = {
      metadata: {
        name: podNameOf(id, 1n),
        uid: "listed",
        labels: { "sockerless/instance": "0123456789abcdef" },
        annotations: { "sockerless/container-id": id, "sockerless/generation": "1" },
        creationTimestamp: new Date(1_000),
        deletionTimestamp: new Date(60_000),
        deletionGracePeriodSeconds: 30,
        managedFields: paths.map((path) => ({ fieldsV1: { path } })),
      },
      spec: {
        containers: [
          {
            name: "main",
            resources: { limits: { memory: "1Gi" } },
            volumeMounts: paths.map((mountPath) => ({ name: "volume-0", mountPath })),
          },
        ],
      },
      status: {
        phase: "Failed",
        podIP: "10.0.0.1",
        reason: "Evicted",
        message: "the node was low on memory",
        conditions: [{ type: "DisruptionTarget", status: "True", reason: "Preempted" }],
        initContainerStatuses: [status("agent", { terminated: { exitCode: 2, reason: "Error" } }, paths)],
        containerStatuses: [
          status(
            "main",
            { terminated: { exitCode: 137, reason: "OOMKilled", finishedAt: new Date(20_000) } },
            paths,
          ),
        ],
      },
    };
    const parts = {
      config: new KubeConfig(),
      async *pages() {
        yield { items: [listed], metadata: { resourceVersion: "1" } };
      },
    };
    const heard: V1Pod[] = [];
    const watch = new PodWatch({
      client: parts as unknown as KubernetesClient,
      selector: "",
      changed: (pod) => heard.push(pod),
      clock: new ManualClock(),
      logger: capturedLogger().logger,
    });
    const noted = { ...listed, metadata: { ...listed.metadata, uid: "noted" } };
    watch.note(noted);
    const pods = await watch.pods(AbortSignal.timeout(5_000));
    for (const pod of [listed, noted]) {
      const seen = pods.get(`${podNameOf(id, 1n)}/${pod.metadata?.uid}`);
      assert.ok(seen !== undefined && JSON.stringify(seen).length < 4_096);
      assert.deepEqual(viewOf(seen.pod, seen), viewOf(pod, seen));
    }
    assert.ok(heard.length > 0 && JSON.stringify(heard).length < 8_192);
    await watch.close();
  });

  it("are not waited for by an end, if the API server does not answer", async () => {
    const watched = Promise.withResolvers<void>();
    const clock = new ManualClock();
    await using server = await standIn((request, response) => {
      if (new URL(request.url ?? "", "http://there").searchParams.has("watch")) {
        watched.resolve();
      } else {
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify({ kind: "List", metadata: { resourceVersion: "1" }, items: [] }));
      }
    }, clock);
    const { client } = server;
    const watch = new PodWatch({
      ...{ client, clock, logger: capturedLogger().logger, selector: "" },
      changed: () => {},
    });
    await watch.pods(client.abandoned);
    await watched.promise;
    await unlessAborted(AbortSignal.timeout(10_000), watch.close());
  });

  const runsOn = { running: { startedAt: new Date(1_000) } };
  for (const [does, reported, afterMs, exitCode] of [
    ["reports its container's end", { terminated: { exitCode: 137 } }, 0, 137],
    ["has not for a minute", runsOn, 10_000, undefined],
  ] as const) {
    it(`have not ended while their containers run on, until their node ${does}`, async () => {
      const watched = Promise.withResolvers<ServerResponse>();
      const clock = new ManualClock();
      await using server = await standIn((request, response) => {
        response.setHeader("content-type", "application/json");
        const isWatch = new URL(request.url ?? "", "http://there").searchParams.has("watch");
        if (isWatch) {
          response.flushHeaders();
          watched.resolve(response);
        } else {
          const items = [evicted(runsOn)];
          response.end(JSON.stringify({ kind: "List", metadata: { resourceVersion: "1" }, items }));
        }
      }, clock);
      const { client } = server;
      const heard = new EventEmitter();
      const watch = new PodWatch({
        ...{ client, clock, logger: capturedLogger().logger, selector: "" },
        changed: (pod) => heard.emit("changed", pod),
      });
      const tasks = podTasks({ client, watch });
      const look = async () => {
        const { views } = await tasks.describe([`${podNameOf(id, 1n)}/uid`], client.abandoned);
        return views.map((view) => [view.stopping, hasEnded(view), view.exitCode]);
      };
      assert.deepEqual(await look(), [[true, false, undefined]]);
      await clock.advance(50_000);
      assert.deepEqual(await look(), [[true, false, undefined]]);
      const changed = once(heard, "changed");
      const object = evicted(reported);
      (await watched.promise).write(`${JSON.stringify({ type: "MODIFIED", object })}\n`);
      await changed;
      await clock.advance(afterMs);
      assert.deepEqual(await look(), [[true, true, exitCode]]);
      await watch.close();
    });
  }
});

function evicted(state: V1ContainerState): V1Pod {
  return {
    metadata: {
      name: podNameOf(id, 1n),
      uid: "uid",
      labels: { "sockerless/instance": "0123456789abcdef" },
      annotations: { "sockerless/container-id": id, "sockerless/generation": "1" },
    },
    status: { phase: "Failed", reason: "Evicted", containerStatuses: [status("main", state, [])] },
  };
}

function status(name: string, state: V1ContainerState, paths: readonly string[]): V1ContainerStatus {
  const volumeMounts = paths.map((mountPath) => ({ name: "volume-0", mountPath }));
  return { name, state, volumeMounts, image: "", imageID: "", ready: false, restartCount: 0 };
}
