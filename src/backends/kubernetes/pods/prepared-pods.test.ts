import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { V1ObjectMeta } from "@kubernetes/client-node";
import { ApiException } from "@kubernetes/client-node";

import { ImageRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type SaidOfContainer, workloadSpec } from "../../cloud/testing/workload-spec.ts";
import type { KubernetesClient } from "../api/client.ts";
import { KubernetesError } from "../api/errors.ts";
import { isContainersPod, preparedPodName } from "../names.ts";
import { type PodSettings, podOf } from "./pod-spec.ts";
import { parseRequest } from "./pod-requests.ts";
import { viewOf } from "./pod-view.ts";
import { preparedPods } from "./prepared-pods.ts";

const settings: PodSettings = {
  namespace: "docker",
  instance: "sockerless/0123456789abcdef",
  agentImage: "registry.example.com/sockerless:agent",
  isDirect: false,
  architecture: "amd64",
  pullSecrets: [],
  nodeSelector: [],
  restricted: false,
  tolerations: [],
  priorityClass: undefined,
  serviceAccount: undefined,
  runtimeClass: undefined,
  annotations: ["team=ci"],
  podPatch: undefined,
  cpuRequest: "250m",
  memoryRequest: 512 * 1024 ** 2,
  gpuResource: "nvidia.com/gpu",
  authorityPin: new Uint8Array(32),
  startTimeoutMs: 300_000,
};
const image = create(ImageRecordSchema, { id: "sha256:0", driverReference: "web@sha256:1" });
const requestOf = (said: SaidOfContainer = {}, other: Partial<PodSettings> = {}): string =>
  JSON.stringify(podOf(workloadSpec(said, { image }), { ...settings, ...other }));
const preparation = { name: "e".repeat(64), shape: "s", waitMs: 1_500, callToken: "0.own" };

/** An API server with one pod, which somebody changes as often before it is patched. */
function serverWith(metadata: V1ObjectMeta, changes = 0) {
  let version = 1;
  let now = metadata;
  let left = changes;
  const core = {
    readNamespacedPod: async () => ({ metadata: { ...now, resourceVersion: String(version) } }),
    async patchNamespacedPod({
      body,
    }: {
      readonly body: { readonly path: string; readonly value: unknown }[];
    }) {
      const valueAt = (path: string) => body.find((each) => each.path === path)?.value as never;
      version += left-- > 0 ? 1 : 0;
      if (valueAt("/metadata/resourceVersion") !== String(version)) {
        throw new KubernetesError("patch pods", new ApiException(409, "", { reason: "Conflict" }, {}));
      }
      now = { ...now, labels: valueAt("/metadata/labels"), annotations: valueAt("/metadata/annotations") };
      return { metadata: now };
    },
  };
  const call = <T>(_name: string, make: (options: object) => Promise<T>): Promise<T> => make({});
  const client = { core, call, namespace: "docker" } as unknown as KubernetesClient;
  return { client, metadata: () => now };
}

const noted: (V1ObjectMeta | undefined)[] = [];
const tasksOn = (client: KubernetesClient) =>
  preparedPods({
    client,
    watch: { noteMetadata: (_task, metadata) => void noted.push(metadata) },
    claimAnonymous: false,
  });
const tasks = tasksOn(serverWith({}).client);

describe("the shape of a pod", () => {
  it("is that of other containers, whatever their agents are told with their starts", () => {
    const other = requestOf({
      ...{ id: "d".repeat(64), generation: 7n },
      config: { hostname: "other", stopSignal: "SIGQUIT" },
      endpoints: { net: { networkId: "f".repeat(64) } },
    });
    assert.equal(tasks.shapeOf(requestOf()), tasks.shapeOf(other));
  });

  it("is compared part by part, by the names that the documents have for them", () => {
    const from = (said: SaidOfContainer): readonly string[] =>
      tasks.differences(requestOf(said), requestOf());
    assert.deepEqual(from({ hostConfig: { resources: { nanoCpus: 2_000_000_000n } } }), ["CPU and memory"]);
    assert.deepEqual(from({ hostConfig: { sysctls: { "net.core.somaxconn": "1" } } }), ["--sysctl"]);
    assert.deepEqual(from({ config: { stopTimeout: 60 } }), ["--stop-timeout"]);
  });

  it("has the size that its pod asks for", () => {
    assert.deepEqual(tasks.sizeOf(requestOf()), { vcpus: 0.25, gib: 0.5 });
  });
});

describe("a prepared pod", () => {
  const prepared = parseRequest(tasks.prepare(requestOf(), preparation));
  const waiting = { ...prepared, metadata: { ...prepared.metadata, uid: "uid" } };
  const task = `${preparedPodName(preparation.name)}/uid`;

  it("is no container's, and known as this backend's", () => {
    assert.doesNotMatch(JSON.stringify(prepared), /c{12}|SOCKERLESS_GENERATION|container-id/);
    assert.doesNotMatch(JSON.stringify(prepared), /SOCKERLESS_CALLBACK/, "it does not call");
    const calling = requestOf(
      { generation: 7n },
      { callbackUrl: "wss://backend.example", callToken: (_id, generation) => `${generation}.of-start` },
    );
    const tokensIn = (request: string) =>
      parseRequest(request).spec?.containers[0]?.env?.filter(({ name }) => name.endsWith("_TOKEN"));
    const name = "SOCKERLESS_CALLBACK_TOKEN";
    assert.deepEqual(tokensIn(calling), [{ name, value: "7.of-start" }]);
    assert.deepEqual(tokensIn(tasks.prepare(calling, preparation)), [{ name, value: "0.own" }]);
    assert.ok(isContainersPod(prepared.metadata ?? {}));
    assert.ok(!isContainersPod({ ...prepared.metadata, name: "copied" }));
    const view = viewOf(waiting, { deleted: false, stopped: false });
    assert.deepEqual([view.task, view.containerId], [task, ""]);
    assert.deepEqual(view.prepared, { name: preparation.name, shape: "s" });
    assert.equal(waiting.metadata.annotations?.["team"], "ci");
  });

  it("is claimed with the labels and annotations of its container's own pod, though it changes meanwhile", async () => {
    const { client, metadata } = serverWith(waiting.metadata, 2);
    const endpoints = { net: { networkId: "f".repeat(64) } };
    const request = requestOf({ generation: 7n, endpoints });
    const claimant = { containerId: "c".repeat(64), launchGeneration: 7n, request };
    await tasksOn(client).claim(task, claimant, AbortSignal.timeout(5_000));
    const view = viewOf({ ...waiting, metadata: metadata() }, { deleted: false, stopped: false });
    assert.deepEqual([view.containerId, view.generation], ["c".repeat(64), 7n]);
    assert.equal(metadata().labels?.["sockerless/network-ffffffffffff"], "member");
    assert.deepEqual(noted.at(-1), metadata());
  });

  it("is claimed by one container, and not in another's place", async () => {
    const claimant = { containerId: "c".repeat(64), launchGeneration: 1n, request: requestOf() };
    const annotations = { ...waiting.metadata.annotations, "sockerless/container-id": "d".repeat(64) };
    for (const metadata of [
      { ...waiting.metadata, annotations },
      { ...waiting.metadata, uid: "another" },
    ]) {
      const { client } = serverWith(metadata);
      await assert.rejects(tasksOn(client).claim(task, claimant, AbortSignal.timeout(5_000)), /is another/);
    }
  });
});
