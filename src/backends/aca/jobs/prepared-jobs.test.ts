import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { containerTag, generationTag, instanceTag } from "../tags.ts";
import { type JobSettings, jobOf } from "./job.ts";
import { type JobRequest, parseRequest } from "./job-requests.ts";
import { preparationOf, preparedJobs } from "./prepared-jobs.ts";

const settings: JobSettings = {
  location: "westeurope",
  environmentId: "/subscriptions/s/environments/e",
  instance: "sockerless/1",
  agentImage: "one.azurecr.io/sockerless:agent",
  replicaTimeoutMs: 3_600_000,
  identity: undefined,
  registry: undefined,
  authorityPin: new Uint8Array(32),
  startTimeoutMs: 300_000,
  callbackUrl: "wss://backend.example",
  callToken: (id: string, generation: bigint) => `${generation}.of-${id}`,
};

interface Asked {
  readonly stopSignal?: string;
  readonly logSize?: string;
  readonly image?: string;
  readonly cpu?: number;
  readonly tmpfs?: string;
  readonly own?: Partial<JobSettings>;
}

const requestOf = (id: string, asked: Asked = {}): string => {
  const { stopSignal = "", logSize, image = "busybox@sha256:1", cpu = 1, tmpfs } = asked;
  const logConfig =
    logSize === undefined ? {} : { logConfig: { type: "json-file", config: { "max-size": logSize } } };
  const record = create(ContainerRecordSchema, {
    ...{ id, generation: 7n },
    config: { stopSignal },
    hostConfig: logConfig,
  });
  const mounts = tmpfs === undefined ? [] : [{ type: "tmpfs", destination: tmpfs } as never];
  const job = jobOf(
    record,
    mounts,
    {
      image: { reference: image, agent: undefined },
      imageMounts: { copies: [], mounts: [] },
      volumes: { volumes: [], mounts: [] },
      size: { cpu, memory: cpu * 2, disk: 4 },
    },
    { ...settings, ...asked.own },
  );
  return JSON.stringify({ name: `sk-${id}`, containerId: id, generation: "7", job } satisfies JobRequest);
};
const tasks = preparedJobs({ claim: () => Promise.resolve() });
const preparation = { name: "e".repeat(64), shape: "s", waitMs: 1_500, callToken: "0.own" };

describe("the shape of a job", () => {
  it("is that of other containers, whatever their agents are told with their starts", () => {
    assert.equal(tasks.shapeOf(requestOf("a")), tasks.shapeOf(requestOf("b", { stopSignal: "SIGQUIT" })));
  });

  it("is compared part by part, by the names that the documents have for them", () => {
    const from = (asked: Asked): readonly string[] => {
      const request = requestOf("a", asked);
      assert.notEqual(tasks.shapeOf(request), tasks.shapeOf(requestOf("b")));
      return tasks.differences(request, requestOf("b"));
    };
    assert.deepEqual(from({ image: "busybox@sha256:2" }), ["the image"]);
    assert.deepEqual(from({ cpu: 2 }), ["CPU and memory"]);
    assert.deepEqual(from({ tmpfs: "/t" }), ["volumes, tmpfs or mounts of images"]);
    assert.deepEqual(from({ logSize: "1m" }), ["--log-opt"]);
    assert.deepEqual(from({ own: { replicaTimeoutMs: 60_000 } }), [
      "identity, registry, environment or aca.replica_timeout",
    ]);
  });

  it("has the size that is charged for", () => {
    assert.deepEqual(tasks.sizeOf(requestOf("a", { cpu: 0.5 })), { vcpus: 0.5, gib: 1 });
  });
});

describe("a prepared job", () => {
  const prepared = parseRequest(tasks.prepare(requestOf("a"), preparation));

  it("is no container's, and has a name and a secret of its own", () => {
    const told = JSON.stringify(prepared);
    assert.doesNotMatch(told, /"a"|SOCKERLESS_GENERATION/);
    assert.match(told, /"SOCKERLESS_START_TIMEOUT","value":"2s"/);
    assert.match(told, /"SOCKERLESS_CALLBACK_TOKEN","value":"0.own"/);
    assert.doesNotMatch(told, /of-/);
    const { name, containerId, generation, job } = prepared;
    assert.match(name, /^sk-[0-9a-f]{12}$/);
    assert.ok(!preparation.name.startsWith(name.slice(3)), "a container sees its job's name");
    assert.deepEqual([containerId, generation], [preparation.name, "0"]);
    assert.deepEqual(job.tags, { [instanceTag]: "sockerless/1" });
  });

  it("waits beside the time that its container has", () => {
    assert.equal(prepared.job.configuration?.replicaTimeout, 3_602);
  });

  it("is known by its variables, whatever tags say", () => {
    assert.deepEqual(preparationOf(prepared.job), { name: preparation.name, shape: "s" });
    const tags = { [containerTag]: "c".repeat(64), [generationTag]: "1" };
    assert.equal(preparationOf({ ...parseRequest(requestOf("a")).job, tags }), undefined);
  });
});
