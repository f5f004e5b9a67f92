/** Objects with our labels that sockerless has not made, before a stand-in of the API server: none is deleted. */
import assert from "node:assert/strict";
import type { RequestListener } from "node:http";
import path from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import type { V1Pod } from "@kubernetes/client-node";

import { ManualClock } from "../../common/manual-clock.ts";
import { NetworkSchema } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { VolumeRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import type { KubernetesClient } from "./api/client.ts";
import { policyOf } from "./networks/policy.ts";
import { orphanedObjects } from "./orphans.ts";
import { EndedPods } from "./pods/ended-pods.ts";
import { podTasks } from "./pods/pods.ts";
import { PodWatch } from "./pods/pod-watch.ts";
import { standIn } from "./testing/stand-in.ts";
import { kubernetesVolumes } from "./volumes.ts";
import { claimOf } from "./volumes/claim.ts";

const instance = "sockerless/0123456789abcdef";
const namespace = "docker";
const labels = { "sockerless/instance": "0123456789abcdef" };
const nothing = {
  hasVolume: () => false,
  hasNetwork: () => false,
  hasContainer: () => false,
  hasImage: () => false,
};

function pod(name: string, annotations: Record<string, string>): object {
  const metadata = { name, namespace, uid: `uid-of-${name}`, labels, annotations };
  return { apiVersion: "v1", kind: "Pod", metadata, status: { phase: "Succeeded" } };
}

const annotationsOf = (id: string, generation: string): Record<string, string> => ({
  "sockerless/container-id": id.repeat(64),
  "sockerless/generation": generation,
});
const settings = {
  ...{ namespace, instance, isDirect: false },
  ...{
    sharedStorageClass: undefined,
    sharedAccessMode: "ReadWriteMany" as const,
    blockStorageClass: undefined,
  },
  volumeSize: 1024,
};
const volume = create(VolumeRecordSchema, { name: "data", driver: "local", created: { seconds: 7n } });
const network = create(NetworkSchema, { id: "e".repeat(64), name: "net", driver: "bridge" });
const claim = claimOf(volume, settings);
const policy = policyOf(network, settings);

const pods = [
  pod("sockerless-cccccccccccc-1", annotationsOf("c", "1")),
  pod("sockerless-dddddddddddd-2-x0a1b2c", annotationsOf("d", "2")),
  // Others have copied labels, or all of a template.
  pod("labels-only", {}),
  pod("copied-template", annotationsOf("c", "1")),
  pod("sockerless-cccccccccccc-2", annotationsOf("c", "1")),
  pod("sockerless-ffffffffffff-1", { "sockerless/container-id": "f", "sockerless/generation": "1" }),
];
const lists: Readonly<Record<string, readonly object[]>> = {
  pods,
  persistentvolumeclaims: [
    { ...claim, metadata: { ...claim.metadata, name: "a-copy" } },
    claim,
    { metadata: { name: "labels-only", namespace, labels } },
    { ...claim, metadata: { ...claim.metadata, name: "copied" } },
  ],
  networkpolicies: [
    policy,
    { metadata: { name: "labels-only", namespace, labels } },
    { ...policy, metadata: { ...policy.metadata, name: "copied" } },
  ],
};
const ourPods = ["sockerless-cccccccccccc-1", "sockerless-dddddddddddd-2-x0a1b2c"];

describe("objects with our labels that sockerless has not made", () => {
  const deleted: string[] = [];
  const clock = new ManualClock();
  const { logger } = capturedLogger();
  const answer: RequestListener = (request, response) => {
    const [url = "", query = ""] = (request.url ?? "").split("?");
    const kind = url.split("/").findLast((part) => part in lists) ?? "";
    response.setHeader("Content-Type", "application/json");
    if (request.method === "DELETE") {
      deleted.push(path.basename(url));
      response.end(JSON.stringify({ kind: "Status", status: "Success" }));
    } else if (query.includes("watch=true")) {
      const [, ...others] = pods; // As a watch tells them, too.
      for (const object of others) {
        response.write(`${JSON.stringify({ type: "MODIFIED", object })}\n`);
      }
    } else {
      response.end(JSON.stringify({ kind: "List", metadata: { resourceVersion: "1" }, items: lists[kind] }));
    }
  };
  let server: Awaited<ReturnType<typeof standIn>>;
  let client: KubernetesClient;

  beforeEach(async () => {
    deleted.length = 0;
    server = await standIn(answer, clock);
    ({ client } = server);
  });
  afterEach(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("are left when they have ended", { timeout: 120_000 }, async () => {
    const heard: string[] = [];
    const watch = new PodWatch({
      ...{ client, clock, logger },
      selector: "sockerless/instance=0123456789abcdef",
      changed(changed: V1Pod) {
        heard.push(changed.metadata?.name ?? "");
        ended.hear(changed);
      },
    });
    const tasks = podTasks({ client, watch });
    const ended = new EndedPods({
      remove: (task) => tasks.stop(task, "it has ended"),
      recordOf: () => undefined,
      ...{ clock, logger },
    });
    const known = await watch.pods(client.abandoned);
    assert.deepEqual(
      [...known.values()].map((seen) => seen.pod.metadata?.name),
      ourPods,
    );
    while (deleted.length < ourPods.length || heard.length < ourPods.length + 1) {
      await clock.advance(60_000);
      await setTimeout(10);
    }
    assert.deepEqual(new Set(deleted), new Set(ourPods));
    assert.deepEqual(new Set(heard), new Set(ourPods));
    await Promise.all([watch.close(), ended.close()]);
  });

  it("are no volumes", async () => {
    const volumes = kubernetesVolumes(client, { settings, claimAnonymous: false });
    assert.deepEqual(
      (await volumes.found()).map(({ name, driverReference }) => [name, driverReference]),
      [["data", `${namespace}/${claim.metadata?.name}`]],
    );
  });

  it("are no orphans, of this instance or another", async () => {
    for (const own of [instance, "sockerless/another"]) {
      const found = await orphanedObjects(client, own, nothing);
      assert.deepEqual(
        found.map(({ id }) => id),
        [...ourPods, claim.metadata?.name, policy.metadata?.name],
      );
    }
  });
});
