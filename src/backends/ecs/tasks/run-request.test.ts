import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { type SaidOfContainer, workloadSpec } from "../../cloud/testing/workload-spec.ts";
import { ecsRequests, type EcsRequestsOptions } from "./ecs-requests.ts";
import { type RunSettings, runRequest } from "./run-request.ts";

const settings: RunSettings = {
  cluster: "sockerless",
  subnets: ["subnet-1", "subnet-2"],
  assignPublicIp: false,
  spotFallback: false,
  capacityProvider: "FARGATE",
  platformVersion: "LATEST",
  taskRoleArn: "arn:aws:iam::123456789012:role/task",
  instance: "sockerless/0123456789abcdef",
  authorityPin: new Uint8Array(32),
  startTimeoutMs: 300_000,
};

const never = (): Promise<never> => new Promise(() => {});
const options = {
  definitions: { ensure: () => Promise.resolve("definition:1") },
  networks: { groupsOf: () => Promise.resolve(["sg-1"]) },
  taskImage: () => ({ reference: "image" }),
  definition: { instance: "sockerless/01", agent: { kind: "image", image: "agent" } },
  run: settings,
};
const requests = ecsRequests(options as unknown as EcsRequestsOptions);

function request(said: SaidOfContainer = {}, other: Partial<RunSettings> = {}) {
  return runRequest(workloadSpec(said).record, "definition:1", ["sg-1"], { ...settings, ...other });
}

describe("the request for a task", () => {
  it("is for a task on demand where Spot has no capacity, and that is wanted", () => {
    const spot = JSON.stringify(request({}, { capacityProvider: "FARGATE_SPOT" }));
    assert.equal(requests.otherCapacity(spot), undefined);
    const run = { ...settings, spotFallback: true };
    const willing = ecsRequests({ ...options, run } as unknown as EcsRequestsOptions);
    const { clientToken } = JSON.parse(spot);
    assert.deepEqual(JSON.parse(willing.otherCapacity(spot) ?? ""), { ...request(), clientToken });
    assert.equal(willing.otherCapacity(JSON.stringify(request())), undefined);
    assert.notEqual(requests.sizeOf(spot), requests.sizeOf(JSON.stringify(request())));
  });

  it("fits the quota of the capacity that it asks for, which is another one once Spot has none", async () => {
    const quotas = {
      spot: { fits: async () => false, vcpus: 0, code: "spot" },
      onDemand: { fits: async () => true, vcpus: 6, code: "on demand" },
    };
    for (const [capacityProvider, fits] of [
      ["FARGATE_SPOT", false],
      ["FARGATE", true],
    ] as const) {
      const run = { ...settings, capacityProvider, spotFallback: true };
      const asking = ecsRequests({ ...options, quotas, run } as unknown as EcsRequestsOptions);
      const asked = JSON.stringify(request({}, run));
      assert.equal(await asking.fitsQuota(asked), fits, capacityProvider);
      assert.equal(await asking.fitsQuota(asking.otherCapacity(asked) ?? asked), true);
      const creation = asking.refuseUnfit(workloadSpec().record, []);
      await (fits ? creation : assert.rejects(creation, /needs 0\.25 vCPU.*at once.*, spot\)/));
    }
  });

  it("has a token of its own, as a restored state counts starts again", () => {
    const { clientToken } = request();
    assert.match(clientToken ?? "", /^[0-9a-f]{64}$/);
    assert.notEqual(request().clientToken, clientToken);
  });

  it("names instance, container and start where they stay visible", () => {
    const { startedBy, overrides } = request({ generation: 4n });
    assert.equal(startedBy, "sockerless/0123456789abcdef");
    const environment = overrides?.containerOverrides?.[0]?.environment ?? [];
    assert.deepEqual(
      environment.map(({ name }) => name),
      [
        "SOCKERLESS_CONTAINER_ID",
        "SOCKERLESS_GENERATION",
        "SOCKERLESS_CLIENT_CA_PIN",
        "SOCKERLESS_START_TIMEOUT",
      ],
    );
    assert.equal(environment[1]?.value, "4");
  });

  it("has the token of its start where its agent calls, which makes it no other task", () => {
    const calling: Partial<RunSettings> = {
      callbackUrl: "wss://backend.example",
      callToken: (_id, generation) => `${generation}.secret`,
    };
    const asked = request({ generation: 4n }, calling);
    const environment = asked.overrides?.containerOverrides?.[0]?.environment ?? [];
    const token = { name: "SOCKERLESS_CALLBACK_TOKEN", value: "4.secret" };
    assert.deepEqual(
      environment.filter(({ name }) => name === token.name),
      [token],
    );
    const next = JSON.stringify(request({ generation: 5n }, calling));
    assert.ok(requests.isAlike(JSON.stringify(asked), next));
  });

  it("tells the agent to wait longer for its start than the backend tries, and not for ever", () => {
    const environment = request({}, { startTimeoutMs: 90_500 }).overrides?.containerOverrides?.[0]
      ?.environment;
    assert.deepEqual(environment?.[3], { name: "SOCKERLESS_START_TIMEOUT", value: "211s" });
  });

  it("tells the agent how much of the log to keep, where the container says it", () => {
    const logConfig = { type: "json-file", config: { "max-size": "20k", "max-file": "2" } };
    const environment = request({ hostConfig: { logConfig } }).overrides?.containerOverrides?.[0]
      ?.environment;
    assert.deepEqual(environment?.slice(4), [
      { name: "SOCKERLESS_LOG_MAX_SIZE", value: "20000" },
      { name: "SOCKERLESS_LOG_MAX_FILES", value: "2" },
    ]);
  });

  it("carries neither command nor environment, whatever their size", () => {
    const env = Array.from({ length: 1000 }, (_, index) => `VARIABLE_${index}=${"x".repeat(100)}`);
    const { overrides } = request({ config: { env, stopSignal: "SIGQUIT" } });
    assert.ok(JSON.stringify(overrides).length < 8192);
    assert.equal(overrides?.containerOverrides?.[0]?.command, undefined);
  });

  it("overrides size, role and disk", () => {
    const { overrides } = request({
      hostConfig: { resources: { memory: 1n << 30n }, storageOpt: { size: "50G" } },
    });
    assert.equal(overrides?.cpu, "256");
    assert.equal(overrides?.memory, "1024");
    assert.equal(overrides?.taskRoleArn, settings.taskRoleArn);
    assert.deepEqual(overrides?.ephemeralStorage, { sizeInGiB: 50 });
    assert.equal(request().overrides?.ephemeralStorage, undefined);
  });

  it("asks for Fargate, or for the capacity provider that is configured", () => {
    assert.equal(request().launchType, "FARGATE");
    const spot = request({}, { capacityProvider: "FARGATE_SPOT" });
    assert.equal(spot.launchType, undefined);
    assert.deepEqual(spot.capacityProviderStrategy, [{ capacityProvider: "FARGATE_SPOT", weight: 1 }]);
  });

  it("is for the same task as the last start's where only the start differs", () => {
    const isAlike = (other: object): boolean =>
      requests.isAlike(JSON.stringify(request()), JSON.stringify(other));
    assert.ok(isAlike(request({ generation: 2n })));
    assert.ok(!isAlike(request({ hostConfig: { resources: { memory: 1n << 30n } } })));
    const { record } = workloadSpec();
    assert.ok(!isAlike(runRequest(record, "definition:1", ["sg-1", "sg-2"], settings)));
    assert.ok(!isAlike(runRequest(record, "definition:2", ["sg-1"], settings)));
    assert.ok(isAlike(request({}, { capacityProvider: "FARGATE_SPOT" })));
  });

  it("has a token of its own for each task of a start, the same whoever asks", () => {
    const first = JSON.stringify({ taskDefinition: "a:1", clientToken: "first" });
    const tokenOf = (text: string): string => JSON.parse(text).clientToken;
    const second = requests.another(first, "arn:1");
    assert.notEqual(tokenOf(second), "first");
    assert.equal(requests.another(first, "arn:1"), second);
    assert.notEqual(tokenOf(requests.another(second, "arn:2")), tokenOf(second));
    assert.ok(tokenOf(second).length <= 64);
  });

  for (const [what, parts, expected] of [
    ["the definition", { definitions: { ensure: never } }, "ECS has not registered its task definition"],
    ["the groups", { networks: { groupsOf: never } }, "EC2 has not told its security groups"],
  ] as const) {
    it(`names ${what} where that is waited for`, async () => {
      const waiting = new Set<string>();
      const { make } = ecsRequests({ ...options, ...parts } as unknown as EcsRequestsOptions);
      void make(workloadSpec(), async (stillTo, step) => {
        waiting.add(stillTo);
        const done = await step();
        waiting.delete(stillTo);
        return done;
      });
      await new Promise(setImmediate);
      assert.deepEqual([...waiting], [expected]);
    });
  }

  it("registers no definition for a container that is refused its security groups", async () => {
    let registered = 0;
    const refused = {
      definitions: { ensure: async () => `definition:${++registered}` },
      networks: { groupsOf: () => Promise.reject(new Error("no room for a rule")) },
    };
    const { make } = ecsRequests({ ...options, ...refused } as unknown as EcsRequestsOptions);
    await assert.rejects(
      make(workloadSpec(), (_stillTo, step) => step()),
      /no room for a rule/,
    );
    assert.equal(registered, 0);
  });
});
