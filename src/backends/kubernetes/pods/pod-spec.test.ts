import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ImageRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type SaidOfContainer, workloadSpec } from "../../cloud/testing/workload-spec.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { podRequests } from "./pod-requests.ts";
import { type PodSettings, podOf } from "./pod-spec.ts";

const settings: PodSettings = {
  namespace: "docker",
  instance: "sockerless/0123456789abcdef",
  agentImage: "registry.example.com/sockerless:agent",
  architecture: "amd64",
  pullSecrets: [],
  nodeSelector: ["pool=docker"],
  serviceAccount: undefined,
  runtimeClass: undefined,
  cpuRequest: "0",
  memoryRequest: 0,
  authorityPin: new Uint8Array(32),
  startTimeoutMs: 300_000,
};
const image = create(ImageRecordSchema, {
  id: `sha256:${"0".repeat(64)}`,
  driverReference: `registry.example.com/web@sha256:${"1".repeat(64)}`,
});

function specOf(said: SaidOfContainer = {}, fields: Partial<WorkloadSpec> = {}) {
  return podOf(workloadSpec(said, { image, ...fields }), settings).spec ?? assert.fail("no spec");
}

function mainOf(said: SaidOfContainer = {}, fields: Partial<WorkloadSpec> = {}) {
  return specOf(said, fields).containers[0] ?? assert.fail("no container");
}

describe("the pod of a container", () => {
  it("is named by container and generation, and is not started again", () => {
    const pod = podOf(workloadSpec({ generation: 3n }, { image }), settings);
    assert.equal(pod.metadata?.name, "sockerless-cccccccccccc-3");
    assert.equal(pod.spec?.restartPolicy, "Never");
  });

  it("carries who owns it, within what a label may have", () => {
    const { labels = {}, annotations = {} } = podOf(workloadSpec({}, { image }), settings).metadata ?? {};
    assert.deepEqual(labels, {
      "sockerless/instance": "0123456789abcdef",
      "sockerless/container": "cccccccccccc",
    });
    assert.equal(annotations["sockerless/container-id"], "c".repeat(64));
  });

  it("begins with the agent as root, which listens on loopback alone", () => {
    const main = mainOf({ config: { user: "1000" } });
    assert.deepEqual([main.command, main.args], [["/.sockerless/sockerless-agent"], ["init"]]);
    assert.equal(main.securityContext?.runAsUser, 0);
    assert.equal(main.env?.find(({ name }) => name === "SOCKERLESS_JOINED_LISTEN")?.value, "127.0.0.1:9111");
  });

  it("has no token of the API, and no variables of services", () => {
    const spec = specOf();
    assert.deepEqual([spec.automountServiceAccountToken, spec.enableServiceLinks], [false, false]);
  });

  it("runs on nodes of its processor that have the labels", () => {
    assert.deepEqual(specOf().nodeSelector, {
      pool: "docker",
      "kubernetes.io/os": "linux",
      "kubernetes.io/arch": "amd64",
    });
  });

  it("reserves what it may have, and only reserves shares", () => {
    const { resources } = mainOf({ hostConfig: { resources: { nanoCpus: 500_000_000n, memory: 1024n } } });
    assert.deepEqual(resources, {
      requests: { cpu: "500m", memory: "1024" },
      limits: { cpu: "500m", memory: "1024" },
    });
    const shares = mainOf({ hostConfig: { resources: { cpuShares: 512n, memoryReservation: 7n } } });
    assert.deepEqual(shares.resources, { requests: { cpu: "500m", memory: "7" }, limits: {} });
    assert.deepEqual(mainOf().resources, { requests: {}, limits: {} });
  });

  it("has capabilities by Kubernetes' names, and a root that cannot be written", () => {
    const { securityContext } = mainOf({ hostConfig: { capAdd: ["net_admin"], readonlyRootfs: true } });
    assert.deepEqual(securityContext?.capabilities, { add: ["NET_ADMIN"] });
    assert.equal(securityContext?.readOnlyRootFilesystem, true);
  });

  it("mounts memory for --tmpfs and /dev/shm, as large as was asked for", () => {
    const spec = specOf(
      { hostConfig: { shmSize: 128n } },
      {
        mounts: [
          { type: "tmpfs", destination: "/scratch", readOnly: false, tmpfsOptions: ["noexec", "size=64m"] },
        ],
      },
    );
    assert.deepEqual(
      spec.volumes?.filter(({ name }) => name.startsWith("tmpfs")).map(({ emptyDir }) => emptyDir),
      [
        { medium: "Memory", sizeLimit: "64Mi" },
        { medium: "Memory", sizeLimit: "128" },
      ],
    );
    assert.deepEqual(
      spec.containers[0]?.volumeMounts?.map(({ mountPath }) => mountPath),
      ["/.sockerless", "/scratch", "/dev/shm"],
    );
  });

  it("has the container's name for a host where that is one", () => {
    assert.equal(specOf({ config: { hostname: "Web-1" } }).hostname, "web-1");
    assert.equal(specOf({ config: { hostname: "web.example" } }).hostname, undefined);
  });

  it("has time to stop for as long as the container", () => {
    assert.equal(specOf({ config: { stopTimeout: 60 } }).terminationGracePeriodSeconds, 80);
  });

  it("refuses an image that was removed", () => {
    assert.throws(() => podOf(workloadSpec(), settings), { message: /has been removed/ });
  });
});

describe("requests for pods", () => {
  const requests = podRequests(settings);
  const step = <T>(_stillTo: string, work: () => Promise<T>): Promise<T> => work();
  const make = (generation: bigint) => requests.make(workloadSpec({ generation }, { image }), step);

  it("are the same for the same start, and alike for the next", async () => {
    assert.equal(await make(1n), await make(1n));
    assert.equal(requests.isAlike(await make(1n), await make(2n)), true);
    const other = workloadSpec({ hostConfig: { readonlyRootfs: true } }, { image });
    assert.equal(requests.isAlike(await make(1n), await requests.make(other, step)), false);
  });

  it("ask for another pod by another name, the same whoever asks", async () => {
    const request = await make(1n);
    const second = requests.another(request, "sockerless-cccccccccccc-1/uid");
    assert.match(JSON.parse(second).metadata.name, /^sockerless-cccccccccccc-1-x[0-9a-f]{6}$/);
    assert.equal(second, requests.another(request, "sockerless-cccccccccccc-1/uid"));
    assert.equal(requests.another(request, ""), request);
  });
});
