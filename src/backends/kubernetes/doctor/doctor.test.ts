/** The doctor over an API server at the wire: what is broken, and which lines tell so, all others being as they were. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import path from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { text } from "node:stream/consumers";

import type { V1Pod, V1ResourceQuota } from "@kubernetes/client-node";
import { parse } from "yaml";

import { checkout } from "../../../common/built-programs.ts";
import { type Clock, systemClock } from "../../../common/clock.ts";
import { loadConfig } from "../../../common/config/load.ts";
import { type Finding, unknown } from "../../../common/finding.ts";
import { processLogger } from "../../../common/logger.ts";
import { doctorChecks, startedPodCheck } from "./doctor.ts";
import { listenHere } from "../../../../test/support/listen-here.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

const rules = (
  parse(readFileSync(path.join(checkout, "deploy/kubernetes/role.yaml"), "utf8")) as {
    readonly rules: readonly { readonly resources: string[]; readonly verbs: string[] }[];
  }
).rules;
const rights = rules.flatMap(({ resources, verbs }) =>
  resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
);

/** A clock by which sleeps are soon over, and take their time. */
function hastyClock(): Clock {
  let sleptMs = 0;
  return {
    nowMs: () => systemClock.nowMs() + sleptMs,
    nowNs: () => systemClock.nowNs(),
    async sleep(ms, signal) {
      await systemClock.sleep(1, signal);
      sleptMs += ms;
    },
  };
}

/** Lines about what nobody can be asked. */
const alwaysUnknown = { "network policies": "unknown", "the agent's image": "unknown" };

describe("the doctor of Kubernetes", () => {
  const directory = scratchDirectory();
  const kubeconfig = path.join(directory, "kubeconfig");
  const server = createServer((request, response) => void answer(request, response));
  /** Rights that the caller does not have, paths that are refused, and the annotations of the one storage class. */
  let denied: Set<string>;
  let refused: Map<string, number>;
  let isDefault: string;
  let refusalText: string;
  /** Quotas of the namespace. */
  let quotas: readonly V1ResourceQuota[];
  /** How the pod stands that was made. */
  let podStatus: object;
  /** Exit codes of pods that call another, of one on its network and one on none; pods that were made, by name. */
  let exits: { member: number; stranger: number };
  const made = new Map<string, V1Pod>();
  /** Whether the last policy names who may call, as an API server that drops unknown fields takes it. */
  let namesCallers = false;
  const changes: string[] = [];

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://server");
    const send = (body: object, status = 200): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const body = await text(request);
    const refusal = refused.get(`${request.method} ${pathname}`);
    if (refusal !== undefined) {
      return send({ kind: "Status", status: "Failure", reason: "refused", message: refusalText }, refusal);
    }
    if (pathname.endsWith("/selfsubjectaccessreviews")) {
      const { resourceAttributes: asked } = JSON.parse(body).spec;
      const resource = [asked.resource, ...(asked.subresource === undefined ? [] : [asked.subresource])].join(
        "/",
      );
      return send({ status: { allowed: !denied.has(`${asked.verb} ${resource}`) } }, 201);
    }
    if (request.method !== "GET" && searchParams.get("dryRun") !== "All") {
      changes.push(`${request.method} ${pathname}`);
    }
    const pod = made.get(pathname.replace(/^.*\//, ""));
    if (pod !== undefined && request.method === "GET") {
      return send({ metadata: {}, spec: { nodeName: "node-1" }, status: statusOf(pod) });
    }
    if (request.method === "POST" && pathname.endsWith("/pods")) {
      const asked = JSON.parse(body) as V1Pod;
      made.set(asked.metadata?.name ?? "", asked);
    }
    if (request.method === "POST" && pathname.endsWith("/networkpolicies")) {
      const { spec } = JSON.parse(body) as { spec: { ingress: readonly { from?: unknown }[] } };
      namesCallers = spec.ingress.every(({ from }) => from !== undefined);
    }
    if (pathname.endsWith("/resourcequotas")) {
      return send({ items: quotas, metadata: {} });
    }
    if (searchParams.get("dryRun") === "All") {
      return send(JSON.parse(body), 201);
    }
    const storageClass = {
      metadata: {
        name: "standard",
        annotations: { "storageclass.kubernetes.io/is-default-class": isDefault },
      },
    };
    return send(pathname.endsWith("/standard") ? storageClass : { items: [storageClass], metadata: {} });
  }

  const isMember = ({ metadata }: V1Pod): boolean =>
    Object.keys(metadata?.labels ?? {}).some((label) => label.startsWith("sockerless/network-"));

  function statusOf(pod: V1Pod): object {
    if (pod.spec?.containers[0]?.args?.[0] === "reach") {
      const exitCode = isMember(pod) || !namesCallers ? exits.member : exits.stranger;
      return { containerStatuses: [{ name: "main", state: { terminated: { exitCode } } }] };
    }
    const running = [{ name: "main", state: { running: {} } }];
    return isMember(pod) ? { podIP: "10.0.0.7", containerStatuses: running } : podStatus;
  }

  before(async () => {
    const port = await listenHere(server);
    const config = {
      "current-context": "c",
      clusters: [
        { name: "c", cluster: { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true } },
      ],
      contexts: [{ name: "c", context: { cluster: "c", user: "u", namespace: "docker" } }],
      users: [{ name: "u", user: {} }],
    };
    writeFileSync(kubeconfig, JSON.stringify(config));
  });
  after(() => {
    server.close();
  });
  beforeEach(() => reset());
  const reset = (): void => {
    [denied, refused, isDefault, quotas] = [new Set(), new Map(), "true", []];
    refusalText = "refused";
    exits = { member: 0, stranger: 1 };
    made.clear();
    podStatus = { containerStatuses: [{ name: "main", state: { running: {} } }] };
    changes.length = 0;
  };

  async function look(
    flags: Readonly<Record<string, unknown>> = {},
    startsPod = false,
    containers = 1,
  ): Promise<Record<string, string>> {
    const findings = await findingsOf(flags, startsPod, containers);
    const bad = findings.filter(({ status }) => status !== "ok");
    return Object.fromEntries(bad.map(({ check, status }) => [check, status]));
  }

  async function findingsOf(
    flags: Readonly<Record<string, unknown>>,
    startsPod: boolean,
    containers = 1,
  ): Promise<readonly Finding[]> {
    const file = path.join(directory, "config.yaml");
    const kubernetes = { kubeconfig, agent_image: "example.com/agent", agent_mode: "api-server" };
    writeFileSync(file, JSON.stringify({ kubernetes }));
    const { config } = loadConfig({
      ...{ command: "serve", backend: "kubernetes", file, flags, environment: {}, uid: 0 },
    });
    assert.ok(config.backend === "kubernetes");
    const { checks, close } = doctorChecks(
      config,
      processLogger({ ...config, logLevel: "silent" }, "doctor"),
      { starts: startsPod ? "pod" : undefined, containers },
      hastyClock(),
    );
    const signal = AbortSignal.timeout(30_000);
    const found = await Promise.all(
      checks.map(async ({ check, look: lookAt }) => {
        const result = await Promise.try(lookAt, signal).catch((error) => unknown(String(error)));
        return { check, ...result };
      }),
    );
    close();
    return found;
  }

  it("finds nothing where nothing is broken, and changes nothing", async () => {
    assert.deepEqual(await look(), alwaysUnknown);
    assert.deepEqual(changes, []);
  });

  it("finds each right that is missing, and nothing else", async () => {
    for (const right of rights) {
      denied = new Set([right]);
      assert.deepEqual(await look(), {
        ...alwaysUnknown,
        [right]: right === "get namespaces" ? "warning" : "wrong",
      });
      denied = new Set(rights.filter((each) => each !== right));
      assert.equal((await look())[right], undefined);
    }
  });

  const shared = "the storage class of shared volumes";
  const block = "the storage class of block volumes";

  it("finds a storage class that is not there, and no default one", async () => {
    refused.set("GET /apis/storage.k8s.io/v1/storageclasses/nfs", 404);
    const flags = { "kubernetes.shared_storage_class": "nfs" };
    assert.deepEqual(await look(flags), { ...alwaysUnknown, [shared]: "wrong" });
    isDefault = "false";
    assert.deepEqual(await look(), { ...alwaysUnknown, [shared]: "warning", [block]: "warning" });
    assert.deepEqual(await look({ "kubernetes.shared_storage_class": "standard" }), {
      ...alwaysUnknown,
      [block]: "warning",
    });
  });

  it("knows nothing of storage classes that it may not read", async () => {
    refused.set("GET /apis/storage.k8s.io/v1/storageclasses", 403);
    assert.deepEqual(await look(), { ...alwaysUnknown, [shared]: "unknown", [block]: "unknown" });
  });

  const quota = "the namespace's quotas";
  const quotaOf = (
    hard: Record<string, string>,
    used: Record<string, string>,
    spec = {},
  ): V1ResourceQuota => ({
    ...{ metadata: { name: "compute" }, spec: { ...spec, hard }, status: { hard, used } },
  });

  it("compares the namespace's quotas with the containers that are expected", async () => {
    const used = { pods: "6", "requests.cpu": "1900m", "requests.memory": "1Gi", "requests.storage": "9Gi" };
    const flags = { "kubernetes.cpu_request": "250m", "kubernetes.memory_request": "128m" };
    const hard = { pods: "20", "requests.cpu": "3", "requests.memory": "4Gi", "requests.storage": "9Gi" };
    quotas = [quotaOf(hard, used)];
    const found = await findingsOf(flags, false);
    assert.match(
      found.find(({ check }) => check === quota)?.text ?? "",
      /^the quota compute\/requests.cpu: room for 4 /,
    );
    assert.deepEqual(await look(flags, false, 4), alwaysUnknown);
    assert.deepEqual(await look(flags, false, 5), { ...alwaysUnknown, [quota]: "warning" });
    quotas = [quotaOf({ ...hard, pods: "10" }, { ...used, "requests.cpu": "0" })];
    assert.deepEqual(await look(flags, false, 5), { ...alwaysUnknown, [quota]: "warning" });
    quotas = [quotaOf(hard, used, { scopes: ["BestEffort"] })];
    assert.deepEqual(await look(flags, false, 5), { ...alwaysUnknown, [quota]: "unknown" });
  });

  it("finds quotas that are used up, and knows nothing of those that it may not read", async () => {
    quotas = [quotaOf({ pods: "1" }, { pods: "1" })];
    refused.set("POST /api/v1/namespaces/docker/pods", 403);
    refusalText =
      'pods "sample" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=1, limited: pods=1';
    assert.deepEqual(await look(), { ...alwaysUnknown, [quota]: "warning" });
    refused = new Map([["GET /api/v1/namespaces/docker/resourcequotas", 403]]);
    assert.deepEqual(await look(), { ...alwaysUnknown, [quota]: "unknown" });
  });

  it("finds a namespace that is not there, and pods that are refused", async () => {
    refused.set("GET /api/v1/namespaces/docker/pods", 404);
    assert.deepEqual(await look(), { ...alwaysUnknown, "the namespace": "wrong" });
    refused = new Map([["POST /api/v1/namespaces/docker/pods", 422]]);
    assert.deepEqual(await look(), { ...alwaysUnknown, "the settings of pods": "wrong" });
  });

  /** Things that can be broken each by itself, and the lines that tell so. */
  const breakages: Readonly<
    Record<
      string,
      {
        readonly lines: Record<string, string>;
        readonly flags?: Readonly<Record<string, unknown>>;
        break?(): void;
      }
    >
  > = {
    "a namespace that cannot be listed": {
      break: () => refused.set("GET /api/v1/namespaces/docker/pods", 404),
      lines: { "the namespace": "wrong" },
    },
    "a class of shared volumes that is not there": {
      break: () => refused.set("GET /apis/storage.k8s.io/v1/storageclasses/nfs", 404),
      flags: { "kubernetes.shared_storage_class": "nfs" },
      lines: { [shared]: "wrong" },
    },
    "a class of block volumes that is not there": {
      break: () => refused.set("GET /apis/storage.k8s.io/v1/storageclasses/ebs", 404),
      flags: { "kubernetes.block_storage_class": "ebs" },
      lines: { [block]: "wrong" },
    },
    "a quota that is too small": {
      break() {
        quotas = [quotaOf({ pods: "1" }, { pods: "1" })];
      },
      lines: { [quota]: "warning" },
    },
    "network policies that do not hold": {
      break() {
        exits = { member: 0, stranger: 0 };
      },
      lines: { "network policies": "warning" },
    },
    "pods that do not start": {
      break() {
        podStatus = { phase: "Failed" };
      },
      lines: { [startedPodCheck]: "wrong" },
    },
    "a right that is missing": {
      break: () => denied.add("create networkpolicies"),
      lines: { "create networkpolicies": "wrong" },
    },
  };
  const { "network policies": _untried, ...unknownAnyhow } = alwaysUnknown;

  it("finds each thing that is broken, and all else well", async () => {
    const everything = Object.values(breakages);
    for (const broken of everything) {
      reset();
      broken.break?.();
      assert.deepEqual(await look(broken.flags, true), { ...unknownAnyhow, ...broken.lines });
    }
  });

  for (const [name, { lines }] of Object.entries(breakages)) {
    it(`finds all well that ${name} would break, where all else is broken`, async () => {
      const others = Object.entries(breakages)
        .filter(([other]) => other !== name)
        .map(([, breakage]) => breakage);
      for (const other of others) {
        other.break?.();
      }
      const found = await look(Object.assign({}, ...others.map(({ flags }) => flags)), true);
      assert.deepEqual(found, Object.assign({}, unknownAnyhow, ...others.map((other) => other.lines)));
      for (const check of Object.keys(lines)) {
        assert.equal(found[check], undefined);
      }
    });
  }

  describe("asked to start a pod", () => {
    const pods = "/api/v1/namespaces/docker/pods";
    const withoutPolicies = { "kubernetes.network_policies": false };
    const started = async (flags = {}): Promise<Finding> =>
      (await findingsOf({ ...withoutPolicies, ...flags }, true)).find(
        ({ check }) => check === startedPodCheck,
      ) ?? assert.fail();

    it("starts one, tells where it ran, and deletes it", async () => {
      assert.equal((await look(withoutPolicies, true))[startedPodCheck], undefined);
      const [created, deleted] = changes;
      assert.equal(created, `POST ${pods}`);
      assert.match(deleted ?? "", new RegExp(`^DELETE ${pods}/sockerless-doctor-[0-9a-f]{8}$`));
      assert.equal(changes.length, 2);
      assert.match((await started()).text, /^it ran on node-1 after \d+ s$/);
    });

    for (const [name, status, told] of [
      [
        "an image that is not pulled",
        {
          initContainerStatuses: [
            { name: "agent", state: { waiting: { reason: "ImagePullBackOff", message: "no such image" } } },
          ],
        },
        /ImagePullBackOff: no such image/,
      ],
      [
        "an agent that ends",
        { phase: "Failed", containerStatuses: [{ name: "main", state: { terminated: { exitCode: 126 } } }] },
        /container main ended with code 126/,
      ],
      [
        "no node for it",
        {
          phase: "Pending",
          conditions: [
            { type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/3 nodes" },
          ],
        },
        /within 2 s: Unschedulable: 0\/3 nodes/,
      ],
    ] as const) {
      it(`finds ${name}, and deletes the pod`, async () => {
        podStatus = status;
        const flags = { "kubernetes.start_timeout": "2s" };
        const { status: found, text: why } = await started(flags);
        assert.equal(found, "wrong");
        assert.match(why, told);
        assert.match(changes.at(-1) ?? "", /^DELETE /);
      });
    }

    const { "network policies": _, ...others } = alwaysUnknown;

    it("finds whether network policies hold, and deletes what it has tried that with", async () => {
      assert.deepEqual(await look({}, true), others);
      const isDeletion = (change: string): boolean => change.startsWith("DELETE ");
      assert.equal(changes.length, 10); // A pod that starts, three of the policy, and the policy.
      assert.equal(changes.filter(isDeletion).length, 5);
      const calls = [...made.values()].filter(({ spec }) => spec?.containers[0]?.args?.[0] === "reach");
      assert.deepEqual(
        calls.map(({ spec }) => spec?.containers[0]?.args),
        Array(2).fill(["reach", "10.0.0.7:9111"]),
      );
    });

    it("finds network policies that do not hold, and nothing else", async () => {
      exits = { member: 0, stranger: 0 };
      assert.deepEqual(await look({}, true), { ...others, "network policies": "warning" });
    });

    it("knows nothing of network policies where no pod reaches another, or none may be made", async () => {
      exits = { member: 1, stranger: 1 };
      assert.deepEqual(await look({}, true), alwaysUnknown);
      refused.set("POST /apis/networking.k8s.io/v1/namespaces/docker/networkpolicies", 403);
      assert.deepEqual(await look({}, true), alwaysUnknown);
    });

    it("finds that no pod is made", async () => {
      refused.set(`POST ${pods}`, 422);
      const { status, text: why } = await started();
      assert.equal(status, "wrong");
      assert.match(why, /Kubernetes makes no pod: .*refused/);
    });
  });

  it("knows nothing of the settings of pods where it may not make any, but takes admission for an answer", async () => {
    refused.set("POST /api/v1/namespaces/docker/pods", 403);
    refusalText =
      'pods is forbidden: User "system:serviceaccount:docker:sockerless" cannot create resource "pods" in API group "" in the namespace "docker"';
    assert.deepEqual(await look(), { ...alwaysUnknown, "the settings of pods": "unknown" });
    refusalText = 'pods "sample" is forbidden: violates PodSecurity "restricted:latest"';
    assert.deepEqual(await look(), { ...alwaysUnknown, "the settings of pods": "wrong" });
  });

  it("asks for no rights to policies where networks are none", async () => {
    denied = new Set(rights.filter((each) => each.endsWith("networkpolicies")));
    const { "network policies": _, ...rest } = alwaysUnknown;
    assert.deepEqual(await look({ "kubernetes.network_policies": false }), rest);
  });
});
