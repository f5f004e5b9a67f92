import assert from "node:assert/strict";
import { test } from "node:test";

import { runCommand } from "../../support/command.ts";
import { duringTests } from "../../support/during-tests.ts";
import { busyboxImage } from "../../support/images.ts";
import { registryUser, TestRegistry } from "../../support/registry.ts";
import { AzureScene } from "./azure-scene.ts";

const version = "2025-11-01";
const path = "Microsoft.ContainerRegistry/registries/sockerless";
const pull = "Microsoft.ContainerRegistry/registries/pull/read";
const scene = duringTests(() => AzureScene.start());
const { source } = duringTests(async (resources) => {
  const source = resources.use(await TestRegistry.start({ credentials: true }));
  await source.push("team/app", "v1", await busyboxImage());
  return { source };
});

async function importImage(more: object = {}): Promise<[number, string]> {
  const from = { registryUri: source.host, credentials: registryUser, sourceImage: "team/app:v1" };
  const given = { source: from, targetTags: ["app:v1"], ...more };
  const { status, body } = await scene.ask("POST", `${path}/importImage`, given, { version });
  return [status, body?.error?.code ?? ""];
}

/** Whether skopeo, as anybody else, can read an image with these credentials. */
async function inspects(credentials: string, image = "app:v1"): Promise<boolean> {
  const target = `docker://${scene.azure.registry.host}/${image}`;
  const flags = ["--tls-verify=false", "--raw", credentials];
  return (await runCommand("skopeo", ["--insecure-policy", "inspect", ...flags, target])).code === 0;
}

test("an image is imported on the server's side, with the source's credentials", async () => {
  assert.deepEqual(await importImage({ source: { sourceImage: "team/app:v1" } }), [400, "InvalidParameters"]);
  const anonymous = { registryUri: source.host, sourceImage: "team/app:v1" };
  assert.deepEqual(await importImage({ source: anonymous }), [400, "ImportImageFailed"]);
  assert.deepEqual(await importImage(), [200, ""]);
  assert.deepEqual(await importImage(), [409, "TagAlreadyExists"]);
  assert.deepEqual(await importImage({ mode: "Force" }), [200, ""]);
  const own = { resourceId: scene.azure.registry.id, sourceImage: "app:v1" };
  assert.deepEqual(await importImage({ source: own, targetTags: ["copy:v2"] }), [200, ""]);
  const { registry } = scene.azure;
  assert.ok(await inspects(`--creds=${registry.name}:${registry.password}`, "copy:v2"));
  scene.azure.delays.importImage = 1;
  const [status] = await importImage({ mode: "Force" });
  scene.azure.delays.importImage = 0;
  assert.equal(status, 202);
});

test("the registry lets in its administrator, and principals as far as their roles go", async () => {
  const { azure } = scene;
  await importImage({ mode: "Force" });
  assert.equal(await inspects("--no-creds"), false);
  assert.equal(await inspects("--creds=sockerless:wrong"), false);
  const principal = azure.entra.createApplication();
  const credentials = `--creds=${principal.clientId}:${principal.clientSecret}`;
  assert.equal(await inspects(credentials), false);
  azure.entra.assign(principal, [pull], azure.registry.id);
  assert.equal(await inspects(credentials), true);
  const copied = await runCommand("skopeo", [
    ...["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"],
    ...[
      `--src-creds=${principal.clientId}:${principal.clientSecret}`,
      `--dest-creds=${principal.clientId}:x`,
    ],
    ...[`docker://${azure.registry.host}/app:v1`, `docker://${azure.registry.host}/other:v1`],
  ]);
  assert.notEqual(copied.code, 0);
});

test("a token of Entra ID is exchanged for the registry's own", async () => {
  const { azure } = scene;
  await importImage({ mode: "Force" });
  const { host } = azure.registry;
  const post = async (what: string, form: Record<string, string>): Promise<Record<string, string>> => {
    const answer = await fetch(`http://${host}/oauth2/${what}`, {
      method: "POST",
      body: new URLSearchParams({ service: host, ...form }),
    });
    return (await answer.json()) as Record<string, string>;
  };
  const token = { grant_type: "access_token", access_token: azure.token() };
  const { refresh_token: refresh = "" } = await post("exchange", token);
  const scope = "repository:app:pull";
  const wanted = { grant_type: "refresh_token", refresh_token: refresh, scope };
  const { access_token: access = "" } = await post("token", wanted);
  const get = async (repository: string): Promise<Response> =>
    await fetch(`http://${host}/v2/${repository}/manifests/v1`, {
      headers: { authorization: `Bearer ${access}`, accept: "application/vnd.oci.image.manifest.v1+json" },
    });
  assert.equal((await get("app")).status, 200);
  const other = await get("copy");
  assert.equal(other.status, 401);
  assert.match(other.headers.get("www-authenticate") ?? "", /scope="repository:copy:pull"/);
});

test("a job pulls with the administrator's password, or as a managed identity that may", async () => {
  const { azure } = scene;
  await importImage({ mode: "Force" });
  const { registry } = azure;
  const containers = [{ name: "main", image: `${registry.host}/app:v1`, command: ["echo", "hello"] }];
  const configured = (entry: object) => ({
    triggerType: "Manual",
    replicaTimeout: 60,
    secrets: [{ name: "registry", value: registry.password }],
    registries: [{ server: registry.host, ...entry }],
  });
  const password = configured({ username: registry.name, passwordSecretRef: "registry" });
  assert.deepEqual(await scene.output("by-password", "", { containers, configuration: password }), ["hello"]);
  const id = `${azure.subscription.environmentId}/identities/puller`;
  const principal = azure.entra.createIdentity(id);
  const identity = { type: "UserAssigned", userAssignedIdentities: { [id]: {} } };
  const more = { containers, identity, configuration: configured({ identity: id }) };
  const { status } = await scene.ask("PUT", "Microsoft.App/jobs/by-identity", scene.job("", more));
  assert.equal(status, 400);
  azure.entra.assign(principal, [pull], registry.id);
  assert.deepEqual(await scene.output("by-identity", "", more), ["hello"]);
});
