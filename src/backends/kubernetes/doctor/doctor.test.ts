/** The doctor over an API server at the wire: what is broken, and which lines tell so, all others being as they were. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { text } from "node:stream/consumers";

import { parse } from "yaml";

import { checkout } from "../../../common/built-programs.ts";
import { loadConfig } from "../../../common/config/load.ts";
import { type Finding, unknown } from "../../../common/finding.ts";
import { processLogger } from "../../../common/logger.ts";
import { doctorChecks, startedPodCheck } from "./doctor.ts";

const rules = (
  parse(readFileSync(path.join(checkout, "deploy/kubernetes/role.yaml"), "utf8")) as {
    readonly rules: readonly { readonly resources: string[]; readonly verbs: string[] }[];
  }
).rules;
const rights = rules.flatMap(({ resources, verbs }) =>
  resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
);

/** Lines about what nobody can be asked. */
const alwaysUnknown = { "network policies": "unknown", "the agent's image": "unknown" };

describe("the doctor of Kubernetes", () => {
  const directory = mkdtempSync(path.join(tmpdir(), "skl-doctor-"));
  const kubeconfig = path.join(directory, "kubeconfig");
  const server = createServer((request, response) => void answer(request, response));
  /** Rights that the caller does not have, paths that are refused, and the annotations of the one storage class. */
  let denied: Set<string>;
  let refused: Map<string, number>;
  let isDefault: string;
  let refusalText: string;
  /** How the pod stands that was made. */
  let podStatus: object;
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
    if (/\/pods\/sockerless-doctor-/.test(pathname)) {
      return send({ metadata: {}, spec: { nodeName: "node-1" }, status: podStatus });
    }
    const storageClass = {
      metadata: {
        name: "standard",
        annotations: { "storageclass.kubernetes.io/is-default-class": isDefault },
      },
    };
    return send(pathname.endsWith("/standard") ? storageClass : { items: [storageClass], metadata: {} });
  }

  before(async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
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
    rmSync(directory, { recursive: true });
  });
  beforeEach(() => {
    [denied, refused, isDefault] = [new Set(), new Map(), "true"];
    refusalText = "refused";
    podStatus = { containerStatuses: [{ name: "main", state: { running: {} } }] };
    changes.length = 0;
  });

  async function look(
    flags: Readonly<Record<string, unknown>> = {},
    startsPod = false,
  ): Promise<Record<string, string>> {
    const findings = await findingsOf(flags, startsPod);
    const bad = findings.filter(({ status }) => status !== "ok");
    return Object.fromEntries(bad.map(({ check, status }) => [check, status]));
  }

  async function findingsOf(
    flags: Readonly<Record<string, unknown>>,
    startsPod: boolean,
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
      { startsPod },
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
      assert.deepEqual(await look(), { ...alwaysUnknown, [right]: "wrong" });
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

  it("finds a namespace that is not there, and pods that are refused", async () => {
    refused.set("GET /api/v1/namespaces/docker/pods", 404);
    assert.deepEqual(await look(), { ...alwaysUnknown, "the namespace": "wrong" });
    refused = new Map([["POST /api/v1/namespaces/docker/pods", 422]]);
    assert.deepEqual(await look(), { ...alwaysUnknown, "the settings of pods": "wrong" });
  });

  describe("asked to start a pod", () => {
    const pods = "/api/v1/namespaces/docker/pods";
    const started = async (flags = {}): Promise<Finding> =>
      (await findingsOf(flags, true)).find(({ check }) => check === startedPodCheck) ?? assert.fail();

    it("starts one, tells where it ran, and deletes it", async () => {
      assert.deepEqual(await look({}, true), alwaysUnknown);
      const [made, deleted] = changes;
      assert.equal(made, `POST ${pods}`);
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
