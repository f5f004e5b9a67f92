import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ImageRecordSchema, VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type SaidOfContainer, workloadSpec } from "../../cloud/testing/workload-spec.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { podRequests } from "./pod-requests.ts";
import { type PodSettings, podOf, unmountedVolumes } from "./pod-spec.ts";

const settings: PodSettings = {
  namespace: "docker",
  instance: "sockerless/0123456789abcdef",
  agentImage: "registry.example.com/sockerless:agent",
  isDirect: false,
  architecture: "amd64",
  pullSecrets: [],
  nodeSelector: ["pool=docker"],
  restricted: false,
  tolerations: [],
  priorityClass: undefined,
  serviceAccount: undefined,
  runtimeClass: undefined,
  annotations: [],
  podPatch: undefined,
  cpuRequest: "0",
  memoryRequest: 0,
  gpuResource: "nvidia.com/gpu",
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

  it("has its agent as the container's user where nobody may be root", () => {
    const restricted = { ...settings, restricted: true };
    const of = (user: string) => podOf(workloadSpec({ config: { user } }, { image }), restricted).spec;
    const without = {
      ...{ runAsUser: 1000, runAsNonRoot: true, allowPrivilegeEscalation: false },
      capabilities: { drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
    };
    for (const each of [...(of("1000")?.containers ?? []), ...(of("1000")?.initContainers ?? [])]) {
      assert.deepEqual(each.securityContext, without);
    }
    assert.equal(of("1000:7")?.containers[0]?.securityContext?.runAsGroup, 7);
    for (const user of ["", "root", "0", "0:0", "web"]) {
      assert.throws(() => of(user), { kind: "invalid", message: /needs a user by number/ });
    }
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

  it("gives init containers the same, for namespaces with quotas, but GPUs, and memory enough for the agent", () => {
    const gpu = { driver: "", count: 1, capabilities: [{ values: ["gpu"] }] };
    const resources = { nanoCpus: 500_000_000n, memory: 8n * 1024n ** 2n, deviceRequests: [gpu] };
    const [init] = specOf({ hostConfig: { resources } }).initContainers ?? [];
    assert.deepEqual(init?.resources, {
      requests: { cpu: "500m", memory: "8388608" },
      limits: { cpu: "500m", memory: "67108864" },
    });
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

  it("mounts a claim once for all its mounts, and directories where its root cannot be written", () => {
    const claim = create(VolumeRecordSchema, { name: "data", driverReference: "docker/claim-1" });
    const anonymous = create(VolumeRecordSchema, { name: "a".repeat(64), anonymous: true });
    const mounts = [
      { type: "volume", destination: "/data", readOnly: false, volume: claim },
      { type: "volume", destination: "/part", readOnly: true, volume: claim, subpath: "of/it" },
      { type: "volume", destination: "/own", readOnly: false, volume: anonymous },
    ] as const;
    const mountsOf = (readonlyRootfs: boolean) => {
      const spec = specOf({ hostConfig: { readonlyRootfs } }, { mounts });
      return spec.containers[0]?.volumeMounts?.filter(({ name }) => name.startsWith("volume-"));
    };
    assert.deepEqual(mountsOf(false), [
      { name: "volume-0", mountPath: "/data" },
      { name: "volume-0", mountPath: "/part", readOnly: true, subPath: "of/it" },
    ]);
    assert.deepEqual(mountsOf(true)?.at(-1), { name: "volume-1", mountPath: "/own" });
    assert.deepEqual(unmountedVolumes(workloadSpec({}, { image, mounts })), ["/own"]);
  });

  it("refuses a claim of another namespace", () => {
    const volume = create(VolumeRecordSchema, { name: "data", driverReference: "other/claim-1" });
    const mounts = [{ type: "volume", destination: "/data", readOnly: false, volume }] as const;
    assert.throws(() => specOf({}, { mounts }), { kind: "invalid", message: /claim of the namespace other/ });
  });

  it("asks for GPUs by their number, and for all privileges where the container has them", () => {
    const gpu = { driver: "", count: 2, capabilities: [{ values: ["gpu"] }] };
    const { resources } = mainOf({ hostConfig: { resources: { deviceRequests: [gpu] } } });
    assert.deepEqual(resources?.limits, { "nvidia.com/gpu": "2" });
    assert.equal(mainOf({ hostConfig: { privileged: true } }).securityContext?.privileged, true);
  });

  it("has what is configured for all pods, and the patch last", () => {
    const { metadata, spec } = podOf(workloadSpec({}, { image }), {
      ...settings,
      tolerations: ["gpu=yes:NoSchedule", "spot"],
      priorityClass: "low",
      annotations: ["team=web", "sockerless/container-id=taken"],
      podPatch: {
        metadata: { labels: { "app.kubernetes.io/part-of": "ci" } },
        spec: {
          priorityClassName: null,
          dnsPolicy: "Default",
          containers: [{ name: "main", env: [{ name: "EXTRA", value: "1" }] }],
        },
      },
    });
    assert.deepEqual(spec?.tolerations, [
      { key: "gpu", operator: "Equal", value: "yes", effect: "NoSchedule" },
      { key: "spot", operator: "Exists" },
    ]);
    assert.equal(metadata?.annotations?.["team"], "web");
    assert.equal(metadata?.annotations?.["sockerless/container-id"], "c".repeat(64));
    assert.equal(metadata?.labels?.["app.kubernetes.io/part-of"], "ci");
    assert.equal(metadata?.labels?.["sockerless/container"], "cccccccccccc");
    assert.deepEqual([spec?.priorityClassName, spec?.dnsPolicy], [undefined, "Default"]);
    assert.equal(spec?.containers[0]?.env?.at(-1)?.name, "EXTRA");
    assert.equal(spec?.containers[0]?.args?.[0], "init");
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
  const requests = podRequests({
    settings,
    largest: { maxCpu: "2", maxMemory: 1024 ** 3 },
    volumes: { refuseLost: () => Promise.resolve() },
  });
  const step = <T>(_stillTo: string, work: () => Promise<T>): Promise<T> => work();
  const make = (generation: bigint) => requests.make(workloadSpec({ generation }, { image }), step);

  it("have a bounded number of volumes", async () => {
    const mounted = (count: number) =>
      requests.make(
        workloadSpec(
          {},
          {
            image,
            mounts: Array.from({ length: count }, (_, at) => ({
              ...{ type: "tmpfs" as const, destination: `/scratch-${at}`, readOnly: false },
            })),
          },
        ),
        step,
      );
    await mounted(250);
    await assert.rejects(mounted(256), {
      kind: "invalid",
      message: /^too many mounts: a pod may have 256 volumes/,
    });
  });

  it("have a bounded size", async () => {
    const mounted = (length: number) =>
      requests.make(
        workloadSpec(
          {},
          {
            image,
            mounts: [{ type: "tmpfs" as const, destination: `/${"x".repeat(length)}`, readOnly: false }],
          },
        ),
        step,
      );
    await mounted(250 * 1024);
    await assert.rejects(mounted(256 * 1024), {
      kind: "invalid",
      message: /^too many mounts and settings: their pod has \d+ bytes, and 262144 are taken$/,
    });
  });

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

  it("refuse more than a container may ask for", async () => {
    const ask = (resources: object) =>
      requests.refuseUnfit(workloadSpec({ hostConfig: { resources } }).record, []);
    await ask({ nanoCpus: 2_000_000_000n, memory: 1024n ** 3n });
    await assert.rejects(ask({ nanoCpus: 3_000_000_000n }), { kind: "invalid", message: /max_cpu/ });
    await assert.rejects(ask({ memory: 2n * 1024n ** 3n }), { kind: "invalid", message: /max_memory/ });
  });
});
