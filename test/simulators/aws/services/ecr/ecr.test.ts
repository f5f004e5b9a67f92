import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import {
  BatchDeleteImageCommand,
  BatchGetImageCommand,
  CreateRepositoryCommand,
  ECRClient,
  GetAuthorizationTokenCommand,
  ListImagesCommand,
} from "@aws-sdk/client-ecr";

import { type Aws, startAws } from "../../aws.ts";
import type { PolicyDocument } from "../../iam/access.ts";

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const hour = 3_600_000;
const repositoryName = "sockerless";

function clientOf(aws: Aws, credentials = aws.credentials): ECRClient {
  return new ECRClient({ ...aws.clientConfig, credentials, maxAttempts: 1 });
}

/** A client of the registry protocol, with a token of its own. */
class RegistryClient {
  readonly host: string;
  readonly #authorization: string;

  constructor(host: string, authorization: string) {
    this.host = host;
    this.#authorization = authorization;
  }

  static async of(aws: Aws, credentials = aws.credentials): Promise<RegistryClient> {
    const { authorizationData } = await clientOf(aws, credentials).send(new GetAuthorizationTokenCommand());
    const { authorizationToken, proxyEndpoint = "" } = authorizationData?.[0] ?? {};
    return new RegistryClient(new URL(proxyEndpoint).host, `Basic ${authorizationToken}`);
  }

  send(method: string, path: string, body?: string, type?: string): Promise<Response> {
    return fetch(new URL(path, `http://${this.host}`), {
      method,
      redirect: "manual",
      headers: {
        authorization: this.#authorization,
        accept: manifestType,
        ...(type === undefined ? {} : { "content-type": type }),
      },
      ...(body === undefined ? {} : { body }),
    });
  }

  async pushBlob(content: string): Promise<string> {
    const begun = await this.send("POST", `/v2/${repositoryName}/blobs/uploads/`);
    assert.equal(begun.status, 202);
    const digest = digestOf(content);
    const location = new URL(begun.headers.get("location") ?? "", `http://${this.host}`);
    location.searchParams.set("digest", digest);
    const put = await this.send("PUT", location.href, content, "application/octet-stream");
    assert.equal(put.status, 201);
    return digest;
  }

  /** Pushes an image of one layer; answers its manifest and the manifest's digest. */
  async push(tag: string, layer: string): Promise<{ readonly manifest: string; readonly digest: string }> {
    await this.pushBlob("{}");
    await this.pushBlob(layer);
    const manifest = manifestOf(layer);
    const put = await this.send("PUT", `/v2/${repositoryName}/manifests/${tag}`, manifest, manifestType);
    assert.equal(put.status, 201);
    return { manifest, digest: put.headers.get("docker-content-digest") ?? "" };
  }
}

function digestOf(content: string): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

function manifestOf(layer: string): string {
  const descriptor = (mediaType: string, content: string) => ({
    mediaType,
    size: content.length,
    digest: digestOf(content),
  });
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: manifestType,
    config: descriptor("application/vnd.oci.image.config.v1+json", "{}"),
    layers: [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
  });
}

test("what is pushed with a token is listed, fetched and deleted by the API", async () => {
  await using aws = await startAws({ lightweight: true });
  const ecr = clientOf(aws);
  const { manifest, digest } = await (await RegistryClient.of(aws)).push("v1", "layer one");
  const listed = async () => (await ecr.send(new ListImagesCommand({ repositoryName }))).imageIds;
  assert.deepEqual(await listed(), [{ imageDigest: digest, imageTag: "v1" }]);
  const asked = { repositoryName, imageIds: [{ imageTag: "v1" }, { imageTag: "v2" }] };
  const { images, failures } = await ecr.send(new BatchGetImageCommand(asked));
  assert.deepEqual(
    images?.map(({ imageManifest }) => imageManifest),
    [manifest],
  );
  assert.deepEqual(
    failures?.map(({ failureCode }) => failureCode),
    ["ImageNotFound"],
  );
  await ecr.send(new BatchDeleteImageCommand({ repositoryName, imageIds: [{ imageTag: "v1" }] }));
  assert.deepEqual(await listed(), []);
  const gone = await (await RegistryClient.of(aws)).send("GET", `/v2/${repositoryName}/manifests/v1`);
  assert.equal(gone.status, 404);
});

test("a token is good for twelve hours, and nothing goes without one", async () => {
  await using aws = await startAws({ lightweight: true });
  const registry = await RegistryClient.of(aws);
  assert.equal((await registry.send("GET", "/v2/")).status, 200);
  const anonymous = await fetch(`http://${registry.host}/v2/`);
  assert.equal(anonymous.status, 401);
  assert.match(anonymous.headers.get("www-authenticate") ?? "", /^Basic realm=/);
  aws.clock.advance(12 * hour);
  const late = await registry.send("GET", "/v2/");
  assert.equal(late.status, 403);
  assert.match(await late.text(), /Your authorization token has expired/);
});

test("layers are elsewhere, where the registry's credentials are refused", async () => {
  await using aws = await startAws({ lightweight: true });
  const registry = await RegistryClient.of(aws);
  await registry.push("v1", "layer one");
  const path = `/v2/${repositoryName}/blobs/${digestOf("layer one")}`;
  const redirection = await registry.send("GET", path);
  assert.equal(redirection.status, 307);
  const location = redirection.headers.get("location") ?? "";
  assert.notEqual(new URL(location).host, registry.host);
  assert.equal((await registry.send("GET", location)).status, 400);
  assert.equal(await (await fetch(location)).text(), "layer one");
});

test("a repository must be there", async () => {
  await using aws = await startAws({ lightweight: true });
  const ecr = clientOf(aws);
  const registry = await RegistryClient.of(aws);
  const missing = await registry.send("POST", "/v2/missing/blobs/uploads/");
  assert.equal(missing.status, 404);
  assert.match(await missing.text(), /NAME_UNKNOWN.*The repository with name 'missing' does not exist/);
  const { repository } = await ecr.send(new CreateRepositoryCommand({ repositoryName: "missing" }));
  assert.equal(repository?.repositoryUri, `${registry.host}/missing`);
  assert.equal((await registry.send("POST", "/v2/missing/blobs/uploads/")).status, 202);
});

test("each step of a push needs its own permission", async () => {
  await using aws = await startAws({ lightweight: true });
  const may = (...actions: string[]): PolicyDocument => ({
    Statement: [{ Effect: "Allow", Action: ["ecr:GetAuthorizationToken", ...actions], Resource: "*" }],
  });
  const reader = aws.iam.addUser("reader", [may("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")]);
  const { digest } = await (await RegistryClient.of(aws)).push("v1", "layer one");
  aws.iam.enforced = true;
  const registry = await RegistryClient.of(aws, reader);
  const manifest = await registry.send("GET", `/v2/${repositoryName}/manifests/v1`);
  assert.equal(manifest.headers.get("docker-content-digest"), digest);
  const refused = await registry.send("POST", `/v2/${repositoryName}/blobs/uploads/`);
  assert.equal(refused.status, 403);
  assert.match(await refused.text(), /user\/reader is not authorized to perform: ecr:InitiateLayerUpload/);
});
