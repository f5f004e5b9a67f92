import assert from "node:assert/strict";
import { test } from "node:test";

import { duringTests } from "../../support/during-tests.ts";
import { untilTrue } from "../../support/until.ts";
import { type Answer, AzureScene } from "./azure-scene.ts";

const scene = duringTests(() => AzureScene.start({ lightweight: true }));

const job = (name: string): string => `Microsoft.App/jobs/${name}`;

async function refused(method: string, path: string, body?: unknown, options?: object): Promise<string> {
  const { status, body: answer } = await scene.ask(method, path, body, options);
  assert.ok(status >= 400, JSON.stringify(answer));
  return `${status} ${answer.error.code}`;
}

test("a request without a good token, API version, subscription or group is refused as Azure does", async () => {
  const { azure } = scene;
  const other = { token: azure.token(undefined, "https://vault.azure.net") };
  assert.equal(await refused("GET", job("a"), undefined, { token: "x" }), "401 InvalidAuthenticationToken");
  assert.equal(await refused("GET", job("a"), undefined, other), "401 InvalidAuthenticationTokenAudience");
  assert.equal(await refused("GET", job("a"), undefined, { version: "" }), "400 MissingApiVersionParameter");
  const old = { version: "2023-05-01" };
  assert.equal(await refused("GET", job("a"), undefined, old), "400 NoRegisteredProviderFound");
  const group = "/resourceGroups/other/providers/Microsoft.App/jobs/a";
  assert.equal(await refused("GET", group), "404 ResourceGroupNotFound");
  assert.equal(await refused("GET", job("a")), "404 ResourceNotFound");
  const expired = azure.token();
  azure.clock.advance(azure.entra.tokenSeconds * 1000);
  assert.equal(
    await refused("GET", job("a"), undefined, { token: expired }),
    "401 ExpiredAuthenticationToken",
  );
});

test("a body that is not as the specification has it is refused, and says where", async () => {
  const whole = scene.job("true") as { properties: { configuration: object; template: object } };
  const wrong = async (change: (body: typeof whole) => unknown): Promise<string> => {
    const { status, body } = await scene.ask("PUT", job("wrong"), change(structuredClone(whole)));
    assert.equal(status, 400);
    assert.equal(body.error.code, "InvalidRequestContent");
    return body.error.message;
  };
  assert.match(await wrong((body) => ({ ...body, surprise: 1 })), /member 'surprise'/);
  assert.match(await wrong(({ properties }) => ({ properties })), /'location' is missing/);
  const configured = (configuration: object) =>
    wrong((body) => ({ ...body, properties: { ...body.properties, configuration } }));
  assert.match(await configured({ triggerType: "Manual" }), /'properties.configuration.replicaTimeout'/);
  assert.match(await configured({ triggerType: "Now", replicaTimeout: 1 }), /not one of: Schedule, Event/);
  assert.match(await configured({ triggerType: "Manual", replicaTimeout: 1.5 }), /is no int32/);
  assert.match(
    await wrong((body) => ({ ...body, properties: { ...body.properties, template: [] } })),
    /object/,
  );
});

test("a job that cannot be is refused by Container Apps' codes", async () => {
  const wrong = (name: string, more: Parameters<AzureScene["job"]>[1]): Promise<string> =>
    refused("PUT", job(name), scene.job("true", more));
  const mounted = (mount: object) => ({ containers: [{ name: "main", volumeMounts: [mount] }] });
  const sized = (cpu: number, memory: string) => ({
    containers: [{ name: "main", resources: { cpu, memory } }],
  });
  assert.equal(await wrong("Upper", {}), "400 ContainerAppInvalidName");
  assert.equal(await wrong("a--b", {}), "400 ContainerAppInvalidName");
  assert.equal(await wrong("a", { containers: [] }), "400 ContainerAppCreateMustContainContainers");
  assert.equal(await wrong("a", sized(0.25, "1Gi")), "400 ContainerAppInvalidResourceTotal");
  assert.equal(await wrong("a", sized(8, "16Gi")), "400 ContainerAppInvalidResourceTotal");
  const initContainers = [{ name: "first", resources: { cpu: 0.5, memory: "1Gi" } }];
  assert.equal(await wrong("a", { initContainers }), "400 ContainerAppInitContainersInvalidCpu");
  assert.equal(
    await wrong("a", mounted({ volumeName: "v", mountPath: "/v" })),
    "400 ContainerAppInvalidVolumeMount",
  );
  const volumes = [{ name: "v", storageType: "EmptyDir" }];
  for (const mountPath of ["/", "v", "/a:b"]) {
    const more = { ...mounted({ volumeName: "v", mountPath }), volumes };
    assert.equal(await wrong("a", more), "400 ContainerAppInvalidMountPath");
  }
  const azureFile = [{ name: "v", storageType: "AzureFile", storageName: "nobody" }];
  assert.equal(await wrong("a", { volumes: azureFile }), "400 ManagedEnvironmentStorageNotFound");
  const secret = { containers: [{ name: "main", env: [{ name: "A", secretRef: "b" }] }] };
  assert.equal(await wrong("a", secret), "400 ContainerAppSecretRefNotFound");
  const empty = { configuration: { triggerType: "Manual", replicaTimeout: 1, secrets: [{ name: "b" }] } };
  assert.equal(await wrong("a", empty), "400 ContainerAppSecretInvalid");
});

test("a job is written, read without its secrets, listed and deleted", async () => {
  const secrets = [{ name: "key", value: "hidden" }];
  const configuration = { triggerType: "Manual", replicaTimeout: 60, secrets };
  const body = scene.job("true", { configuration, tags: { one: "1" } });
  const created = await scene.ask("PUT", job("whole"), body);
  assert.equal(created.status, 201);
  assert.equal(created.body.properties.provisioningState, "Succeeded");
  assert.deepEqual(created.body.properties.configuration.secrets, [{ name: "key" }]);
  assert.equal((await scene.ask("PUT", job("whole"), body)).status, 200);
  const listed = await scene.ask("GET", "Microsoft.App/jobs");
  assert.ok(listed.body.value.some(({ name }: { name: string }) => name === "whole"));
  assert.equal((await scene.ask("DELETE", job("whole"))).status, 200);
  assert.equal((await scene.ask("DELETE", job("whole"))).status, 204);
  assert.equal((await scene.ask("GET", job("whole"))).status, 404);
});

test("what takes time is followed by Azure-AsyncOperation, or by Location", async () => {
  await using slow = await AzureScene.start({
    lightweight: true,
    delays: { writeJob: 600_000, start: 600_000, deleteJob: 600_000 },
  });
  const created = await slow.ask("PUT", job("slow"), slow.job("true"));
  assert.equal(created.status, 201);
  assert.equal(created.headers.get("retry-after"), "1");
  assert.equal(created.body.properties.provisioningState, "InProgress");
  const status = created.headers.get("azure-asyncoperation") ?? "";
  assert.equal((await slow.follow(status)).body.status, "InProgress");
  assert.equal(
    (await slow.ask("POST", `${job("slow")}/start`)).body.error.code,
    "ContainerAppOperationInProgress",
  );
  slow.azure.clock.advance(600_000);
  assert.equal((await slow.follow(status)).body.status, "Succeeded");
  const started = await slow.ask("POST", `${job("slow")}/start`);
  assert.equal(started.status, 202);
  const location = started.headers.get("location") ?? "";
  assert.equal((await slow.follow(location)).status, 202);
  slow.azure.clock.advance(600_000);
  assert.deepEqual((await slow.follow(location)).body, started.body);
  const deleted = await slow.ask("DELETE", job("slow"));
  assert.equal(deleted.status, 202);
  assert.equal((await slow.ask("GET", job("slow"))).body.properties.provisioningState, "Deleting");
  slow.azure.clock.advance(600_000);
  assert.equal((await slow.follow(deleted.headers.get("location") ?? "")).status, 200);
  assert.equal((await slow.ask("GET", job("slow"))).status, 404);
});

test("new jobs and executions are seen by others when the cloud is consistent again", async () => {
  const { azure } = scene;
  azure.switches.eventualConsistencyMs = 600_000;
  try {
    await scene.write("new", "true");
    assert.equal(await refused("POST", `${job("new")}/start`), "404 ResourceNotFound");
    azure.clock.advance(600_000);
    const execution = await scene.start("new");
    const executions = `${job("new")}/executions`;
    assert.deepEqual((await scene.ask("GET", executions)).body.value, []);
    azure.clock.advance(600_000);
    assert.equal((await scene.ask("GET", executions)).body.value[0].name, execution);
  } finally {
    azure.switches.eventualConsistencyMs = 0;
  }
});

test("an execution whose time is up before it runs ends too", async () => {
  const { azure } = scene;
  await scene.write("brief", "true");
  azure.delays.pull = 300_000;
  const execution = await scene.start("brief");
  await untilTrue(() => azure.app.execution(execution).replicas.length === 1);
  azure.clock.advance(600_000);
  await azure.app.execution(execution).finished;
  assert.equal(await scene.status("brief", execution), "Failed");
  azure.delays.pull = 0;
});

test("lists come in pages, which links chain", async () => {
  const { azure } = scene;
  await scene.write("paged", "true");
  const started = [await scene.start("paged"), await scene.start("paged"), await scene.start("paged")];
  azure.switches.pageSize = 2;
  const namesOf = ({ body }: Answer): string[] => body.value.map(({ name }: { name: string }) => name);
  const first = await scene.ask("GET", `${job("paged")}/executions`);
  const second = await scene.follow(first.body.nextLink);
  azure.switches.pageSize = 100;
  assert.deepEqual([...namesOf(first), ...namesOf(second)], started.toReversed());
  assert.equal(second.body.nextLink, undefined);
});

test("an execution can have any status, and executions end as they are told", async () => {
  const { azure } = scene;
  await scene.write("told", "true");
  const execution = await scene.start("told");
  for (const status of ["Unknown", "Degraded", "Processing"] as const) {
    azure.app.tell(execution, status);
    assert.equal(await scene.status("told", execution), status);
  }
  azure.app.tell(execution, undefined);
  azure.app.end(execution, 0);
  await azure.app.execution(execution).finished;
  assert.equal(await scene.status("told", execution), "Succeeded");
});

test("above ARM's rates a call is refused with how long to wait", async () => {
  await using busy = await AzureScene.start({ lightweight: true });
  const { azure } = busy;
  azure.rates.enabled = true;
  azure.rates.override("reads", { burst: 2, perSecond: 0.001 });
  await busy.ask("GET", "Microsoft.App/jobs");
  await busy.ask("GET", "Microsoft.App/jobs");
  const { status, headers, body } = await busy.ask("GET", "Microsoft.App/jobs");
  assert.deepEqual([status, headers.get("retry-after")], [429, "1"]);
  assert.equal(body.error.code, "SubscriptionRequestsThrottled");
  azure.clock.advance(1_000_000);
  assert.equal((await busy.ask("GET", "Microsoft.App/jobs")).status, 200);
});

test("a principal may do what its roles allow", async () => {
  const { azure } = scene;
  const principal = azure.entra.createApplication();
  const options = { token: azure.token(principal) };
  assert.equal(await refused("GET", "Microsoft.App/jobs", undefined, options), "403 AuthorizationFailed");
  azure.entra.assign(
    principal,
    ["Microsoft.App/jobs/read"],
    `/subscriptions/${azure.subscription.subscriptionId}`,
  );
  assert.equal((await scene.ask("GET", "Microsoft.App/jobs", undefined, options)).status, 200);
  assert.equal(await refused("DELETE", job("any"), undefined, options), "403 AuthorizationFailed");
});

test("calls are logged and fail on command, also after their work is done", async () => {
  const { azure } = scene;
  azure.calls.clear();
  azure.faults.add({ on: "app.Jobs_Start", error: { code: "InternalServerError", status: 500 } });
  await scene.write("faulty", "true");
  assert.equal(await refused("POST", `${job("faulty")}/start`), "500 InternalServerError");
  azure.faults.add({ on: "app.Jobs_Start", cut: "after" });
  await assert.rejects(scene.ask("POST", `${job("faulty")}/start`));
  assert.equal((await scene.ask("GET", `${job("faulty")}/executions`)).body.value.length, 1);
  assert.deepEqual(azure.calls.counts(), {
    "app.Jobs_CreateOrUpdate": 1,
    "app.Jobs_Start": 2,
    "app.JobsExecutions_List": 1,
  });
});

test("an environment's storages hide their keys, and are kept while a job names one", async () => {
  const path = "Microsoft.App/managedEnvironments/sockerless/storages/data";
  const azureFile = {
    accountName: "account",
    accountKey: "key",
    shareName: "share",
    accessMode: "ReadWrite",
  };
  const written = await scene.ask("PUT", path, { properties: { azureFile } });
  assert.equal(written.status, 200);
  assert.equal(written.body.properties.azureFile.accountKey, undefined);
  const volumes = [{ name: "v", storageType: "AzureFile", storageName: "data" }];
  await scene.write("user", "true", { volumes });
  assert.equal(await refused("DELETE", path), "409 ManagedEnvironmentStorageInUse");
  await scene.ask("DELETE", job("user"));
  assert.equal((await scene.ask("DELETE", path)).status, 200);
  assert.equal(await refused("GET", path), "404 ManagedEnvironmentStorageNotFound");
});

test("tokens are had as managed identities", async () => {
  const environment = scene.azure.environmentFor();
  const identity = `${environment["IDENTITY_ENDPOINT"]}?api-version=2019-08-01&resource=https://management.azure.com/`;
  const given = await fetch(identity, {
    headers: { "x-identity-header": environment["IDENTITY_HEADER"] ?? "" },
  });
  const { access_token: managed } = (await given.json()) as { access_token: string };
  assert.equal((await scene.ask("GET", "Microsoft.App/jobs", undefined, { token: managed })).status, 200);
  assert.equal((await fetch(identity)).status, 401);
});
