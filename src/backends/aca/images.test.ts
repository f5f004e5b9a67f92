import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { describe, it, type TestContext } from "node:test";

import { create } from "@bufbuild/protobuf";

import { systemClock } from "../../common/clock.ts";
import {
  ContainerRecordSchema,
  type ImageRecord,
  ImageRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import type { ReportedPhase } from "../driver/launches.ts";
import { shortId } from "../../common/ids.ts";
import { hexOf, sha256Of } from "../images/digest.ts";
import { mediaTypes } from "../images/manifest.ts";
import { AcrCredentials, isAcr } from "./acr/credentials.ts";
import type { AzureClients, PlainAnswer, PlainRequest } from "./arm/clients.ts";
import { acaImages } from "./images.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

interface KeptManifest {
  readonly type: string;
  readonly bytes: Buffer;
}

/** As much of a registry in Azure as images use; the simulator's own tests know the rest. */
class FakeAcr {
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, KeptManifest>();
  /** Digests by tag. */
  readonly tags = new Map<string, string>();
  /** Bytes of blobs that came over the wire. */
  uploaded = 0;
  readonly exchanged: URLSearchParams[] = [];
  readonly imports: unknown[] = [];
  readonly importedAt: string[] = [];
  host = "";

  async start(t: TestContext): Promise<void> {
    const server = createServer((request, response) => void this.#answer(request, response));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** Keeps an image. @returns its digest */
  keep(user: string, layer: Buffer, tag?: string, type: string = mediaTypes.ociManifest): string {
    const config = Buffer.from(
      JSON.stringify({
        architecture: "amd64",
        os: "linux",
        config: { User: user, Entrypoint: ["/app"], Env: ["A=b"] },
        rootfs: { type: "layers", diff_ids: [sha256Of(layer)] },
        history: [{ created_by: "make" }],
        unknown: { kept: true },
      }),
    );
    const manifest = {
      schemaVersion: 2,
      mediaType: type,
      config: { mediaType: mediaTypes.ociConfig, digest: this.#blob(config), size: config.length },
      layers: [{ mediaType: `${mediaTypes.ociLayer}+gzip`, digest: this.#blob(layer), size: layer.length }],
    };
    return this.#put({ type, bytes: Buffer.from(JSON.stringify(manifest)) }, tag);
  }

  #blob(bytes: Buffer): string {
    this.blobs.set(sha256Of(bytes), bytes);
    return sha256Of(bytes);
  }

  #put(manifest: KeptManifest, tag: string | undefined): string {
    const digest = sha256Of(manifest.bytes);
    this.manifests.set(digest, manifest);
    if (tag !== undefined) {
      this.tags.set(tag, digest);
    }
    return digest;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "", `http://${this.host}`);
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
    }
    const [status, headers, body] = this.#respond(request, url, Buffer.concat(chunks));
    response.writeHead(status, headers);
    response.end(request.method === "HEAD" ? undefined : body);
  }

  #respond(
    { method = "", headers }: IncomingMessage,
    url: URL,
    body: Buffer,
  ): [number, Record<string, string>, (Buffer | string)?] {
    const { pathname } = url;
    if (pathname === "/oauth2/exchange") {
      this.exchanged.push(new URLSearchParams(body.toString()));
      return [200, {}, JSON.stringify({ refresh_token: "refresh" })];
    }
    if (pathname === "/oauth2/token") {
      if (headers.authorization === `Basic ${Buffer.from("here:sesame").toString("base64")}`) {
        return [200, {}, '{"access_token":"access"}'];
      }
      const form = new URLSearchParams(body.toString());
      return form.get("refresh_token") === "refresh"
        ? [200, {}, '{"access_token":"access"}']
        : [401, {}, "{}"];
    }
    if (headers.authorization !== "Bearer access") {
      const realm = `Bearer realm="http://${this.host}/oauth2/token",service="${this.host}"`;
      return [401, { "www-authenticate": realm }, "{}"];
    }
    const [, kind = "", name = ""] = /^\/v2\/sockerless\/(manifests|blobs|tags)\/(.*)$/.exec(pathname) ?? [];
    switch (`${method} ${kind}`) {
      case "GET tags":
        return [200, {}, JSON.stringify({ tags: [...this.tags.keys()] })];
      case "HEAD manifests":
      case "GET manifests": {
        const digest = this.tags.get(name) ?? name;
        const found = this.manifests.get(digest);
        return found === undefined
          ? [404, {}, "{}"]
          : [200, { "content-type": found.type, "docker-content-digest": digest }, found.bytes];
      }
      case "PUT manifests":
        this.#put({ type: headers["content-type"] ?? "", bytes: body }, name);
        return [201, {}];
      case "DELETE manifests":
        return [this.manifests.delete(name) ? 202 : 404, {}];
      case "HEAD blobs":
      case "GET blobs": {
        const blob = this.blobs.get(name);
        return blob === undefined ? [404, {}, "{}"] : [200, {}, blob];
      }
      case "POST blobs":
        return [202, { location: "/v2/sockerless/blobs/uploads/1" }];
      case "PUT blobs":
        assert.equal(this.#blob(body), url.searchParams.get("digest"));
        this.uploaded += body.length;
        return [201, {}];
      default:
        return this.#own(method, url);
    }
  }

  #own(method: string, { pathname, searchParams }: URL): [number, Record<string, string>, string?] {
    const tag = /^\/acr\/v1\/sockerless\/_tags\/(.+)$/.exec(pathname)?.[1];
    if (method === "DELETE" && tag !== undefined) {
      return [this.tags.delete(tag) ? 202 : 404, {}];
    }
    if (pathname === "/acr/v1/sockerless/_tags") {
      const named = [...this.tags].filter(([, digest]) => digest === searchParams.get("digest"));
      return [200, {}, JSON.stringify({ tags: named.map(([name]) => ({ name })) })];
    }
    return [pathname === "/v2/" ? 200 : 404, {}, "{}"];
  }

  /** The Resource Manager, which imports from a registry elsewhere: its images are these. */
  azure(elsewhere: ReadonlyMap<string, () => string>): AzureClients {
    let polls = 0;
    const answer = (status: number, body?: unknown): PlainAnswer => ({
      status,
      body,
      header: (name) => ({ location: "http://arm/poll", "retry-after": "0.001" })[name],
    });
    const request = async ({ method, url, body }: PlainRequest): Promise<PlainAnswer> => {
      if (method === "GET") {
        polls += 1;
        return answer(polls % 3 === 0 ? 200 : 202);
      }
      this.importedAt.push(new URL(url).pathname);
      this.imports.push(body);
      const { source, targetTags } = body as { source: { sourceImage: string }; targetTags: string[] };
      const digest = elsewhere.get(source.sourceImage)?.() ?? "";
      this.tags.set(targetTags[0]?.split(":")[1] ?? "", digest);
      return answer(202);
    };
    return {
      call: (_operation: string, send: (options: object) => Promise<unknown>) =>
        send({ abortSignal: AbortSignal.timeout(120_000) }),
      request,
      armUrl: (armPath: string) => `http://arm${armPath}?api-version=1`,
      credential: { getToken: async () => ({ token: "login", expiresOnTimestamp: 0 }) },
    } as unknown as AzureClients;
  }
}

const agentLayer = Buffer.from("the agent");
const layer = Buffer.alloc(100_000, "layer");
const step = <T>(_stillTo: string, work: () => Promise<T>): Promise<T> => work();
const noPhase = (): void => {};
const container = create(ContainerRecordSchema, {});

async function setUp(
  t: TestContext,
  { user = "app", registry = true, type = mediaTypes.ociManifest as string } = {},
) {
  const acr = new FakeAcr();
  await acr.start(t);
  acr.keep("0", agentLayer, "agent");
  const source = new FakeAcr();
  const digest = source.keep(user, layer, undefined, type);
  const stateDir = scratchDirectory();
  const configBytes = [...source.blobs.values()][0] ?? Buffer.of();
  const id = sha256Of(configBytes);
  await mkdir(path.join(stateDir, "blobs", "sha256"), { recursive: true });
  await writeFile(path.join(stateDir, "blobs", "sha256", hexOf(id)), configBytes);
  const image = create(ImageRecordSchema, { id, driverReference: `registry.example.com/app@${digest}` });
  const known: ImageRecord[] = [image];
  const asked = new Set<string>();
  const azure = acr.azure(new Map([[`app@${digest}`, () => acr.keep(user, layer, undefined, type)]]));
  const log = capturedLogger();
  const open = (instance = "sockerless/1", registryId?: string) =>
    acaImages({
      registryId,
      azure,
      registryServer: registry ? acr.host : undefined,
      registryUsername: "here",
      registryPassword: "sesame",
      repositoryPath: "sockerless",
      subscriptionId: "s",
      resourceGroup: "g",
      agentImage: `${acr.host}/sockerless:agent`,
      registry: { insecureHosts: [], userAgent: "test", compression: "gzip" as const, silenceMs: 10_000 },
      known: () => known,
      isAsked: (reference) => asked.has(reference),
      stateDir,
      instance,
      clock: systemClock,
      logger: log.logger,
    });
  return { acr, image, digest, known, asked, open, log };
}

describe("an image that runs as root", () => {
  it("is pulled by jobs where it came from, and the agent is brought to it", async (t) => {
    for (const user of ["", "0", "root", "root:app", ":50"]) {
      const { acr, image, open } = await setUp(t, { user });
      const found = await open().forJobs(image, container, step, noPhase);
      assert.deepEqual(found, { reference: image.driverReference, agent: undefined });
      assert.deepEqual([acr.uploaded, acr.imports.length], [0, 0]);
    }
  });
});

describe("an image that runs as another user", () => {
  it("is fetched by the registry in the resource group, or by the one of the configured ID", async (t) => {
    const elsewhere =
      "/subscriptions/t/resourceGroups/h/providers/Microsoft.ContainerRegistry/registries/there";
    const group = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/here";
    for (const [id, at] of [
      [undefined, group],
      [elsewhere, elsewhere],
    ] as const) {
      const { acr, image, open } = await setUp(t);
      await open(undefined, id).forJobs(image, container, step, noPhase);
      assert.deepEqual(acr.importedAt, [`${at}/importImage`]);
    }
  });

  it("is derived once from layers that the registry has fetched itself, with the agent's on top, as root", async (t) => {
    for (const type of [mediaTypes.ociManifest, mediaTypes.dockerManifest]) {
      const { acr, image, digest, open } = await setUp(t, { type });
      const images = open();
      const [found, again] = await Promise.all([
        images.forJobs(image, container, step, noPhase),
        images.forJobs(image, container, step, noPhase),
      ]);
      assert.deepEqual(again, found);
      assert.equal(found.agent, "/sockerless-agent");
      assert.deepEqual(await open().forJobs(image, container, step, noPhase), found);
      assert.deepEqual(acr.imports, [
        {
          source: { registryUri: "registry.example.com", sourceImage: `app@${digest}` },
          targetTags: acr.imports.flatMap((each) => (each as { targetTags: string[] }).targetTags),
          mode: "Force",
        },
      ]);
      assert.ok(acr.uploaded < 1_000, "the configuration alone passes");
      const made = acr.manifests.get(found.reference.split("@")[1] ?? "");
      const manifest = JSON.parse(made?.bytes.toString() ?? "") as {
        mediaType: string;
        config: { digest: string };
        layers: { digest: string; mediaType: string }[];
      };
      assert.equal(manifest.mediaType, type);
      assert.deepEqual(
        manifest.layers.map((each) => each.digest),
        [sha256Of(layer), sha256Of(agentLayer)],
      );
      assert.equal(manifest.layers[1]?.mediaType.includes("docker"), type === mediaTypes.dockerManifest);
      const config = JSON.parse(acr.blobs.get(manifest.config.digest)?.toString() ?? "") as Record<
        string,
        unknown
      >;
      assert.deepEqual(config, {
        architecture: "amd64",
        os: "linux",
        config: { User: "0", Entrypoint: ["/sockerless-agent"], Cmd: ["init"], Env: ["A=b"] },
        rootfs: { type: "layers", diff_ids: [sha256Of(layer), sha256Of(agentLayer)] },
        history: [{ created_by: "make" }, { created_by: "sockerless: the agent" }],
        unknown: { kept: true },
      });
    }
  });

  it("takes its time as a phase of the start", async (t) => {
    const { image, open } = await setUp(t);
    const told: ReportedPhase[] = [];
    await open().forJobs(image, container, step, (phase) => told.push(phase));
    assert.deepEqual(
      told.map(({ name, until }) => [name, until !== undefined]),
      [
        ["image", false],
        ["image", true],
      ],
    );
  });

  it("is gone with the image that it was derived from, and another instance keeps its own", async (t) => {
    const { acr, image, open } = await setUp(t);
    const images = open();
    await images.forJobs(image, container, step, noPhase);
    const before = acr.tags.size;
    await open("sockerless/2").forJobs(image, container, step, noPhase);
    const { size } = acr.tags;
    assert.ok(size > before, "each has tags of its own");
    await images.images.discard(image);
    assert.equal(acr.tags.size, size - 2);
    assert.ok([...acr.tags.values()].every((kept) => acr.manifests.has(kept)));
    await open("sockerless/2").images.discard(image);
    assert.deepEqual([...acr.tags.keys()], ["agent"]);
    assert.equal(acr.manifests.size, 1);
  });

  it("is swept once this backend has no such image", async (t) => {
    const { acr, image, known, open } = await setUp(t);
    const images = open();
    await images.forJobs(image, container, step, noPhase);
    const sweep = async (): Promise<void> => {
      for (const { run } of images.sweeps) {
        await run(AbortSignal.timeout(120_000));
      }
    };
    await sweep();
    assert.equal(acr.tags.size, 3);
    known.length = 0;
    await sweep();
    assert.deepEqual([...acr.tags.keys()], ["agent"]);
  });

  it("is swept once it is made with a later agent, and no start asks for it any more", async (t) => {
    const { acr, image, asked, open } = await setUp(t);
    const earlier = await open().forJobs(image, container, step, noPhase);
    acr.keep("0", Buffer.from("a later agent"), "agent");
    const images = open();
    const sweep = async (): Promise<void> => {
      for (const { run } of images.sweeps) {
        await run(AbortSignal.timeout(120_000));
      }
    };
    const isThere = ({ reference }: { readonly reference: string }): boolean =>
      acr.manifests.has(reference.split("@")[1] ?? "");
    await sweep(); // Nobody knows the later agent yet.
    assert.ok(isThere(earlier));
    const later = await images.forJobs(image, container, step, noPhase);
    asked.add(earlier.reference);
    await sweep();
    assert.ok(isThere(earlier));
    asked.clear();
    await sweep();
    assert.deepEqual([isThere(earlier), isThere(later)], [false, true]);
    assert.deepEqual(await images.forJobs(image, container, step, noPhase), later);
  });

  it("cannot run without a registry, and says what to set", async (t) => {
    const { image, open } = await setUp(t, { registry: false });
    await assert.rejects(
      open().forJobs(image, container, step, noPhase),
      /runs as app, .* set aca.registry_server/,
    );
  });

  it("needs the agent's image", async (t) => {
    const { acr, image, open } = await setUp(t);
    acr.tags.delete("agent");
    await assert.rejects(open().forJobs(image, container, step, noPhase), /run `sockerless aca push-agent`/);
  });
});

describe("an image that was removed", () => {
  it("starts no container", async (t) => {
    const { image, open } = await setUp(t);
    const gone = { ...image, driverReference: "" };
    await assert.rejects(open().forJobs(gone, container, step, noPhase), /has been removed/);
  });

  it("leaves the registry, unless it has come there again meanwhile", async (t) => {
    const { acr, image, open } = await setUp(t);
    const instance = shortId(hexOf(sha256Of("sockerless/1")));
    const digest = acr.keep("0", layer, `image-${hexOf(image.id)}-${instance}`);
    const pushed = { ...image, driverReference: `${acr.host}/sockerless@${digest}` };
    const { images } = open();
    await images.discard(pushed, { ...pushed, driverReference: `${acr.host}/sockerless@${sha256Of("")}` });
    assert.equal(acr.tags.size, 2);
    await images.discard(pushed, image);
    assert.deepEqual([...acr.tags.keys()], ["agent"]);
  });
});

describe("credentials for ACR", () => {
  it("are the login's token, exchanged once, or the configured user's at his registry alone", async (t) => {
    const acr = new FakeAcr();
    await acr.start(t);
    const options = {
      azure: acr.azure(new Map()),
      registry: { insecureHosts: [], userAgent: "test", compression: "gzip" as const, silenceMs: 10_000 },
      clock: systemClock,
    };
    const login = new AcrCredentials({
      ...options,
      server: acr.host,
      username: undefined,
      password: undefined,
    });
    const [one, other] = await Promise.all([login.get(acr.host), login.get(acr.host)]);
    assert.deepEqual([one.identityToken, other.identityToken], ["refresh", "refresh"]);
    assert.deepEqual(
      acr.exchanged.map((form) => Object.fromEntries(form)),
      [{ grant_type: "access_token", service: acr.host, access_token: "login" }],
    );
    login.forget(acr.host);
    await login.get(acr.host);
    assert.equal(acr.exchanged.length, 2);
    const user = new AcrCredentials({
      ...options,
      server: "a.azurecr.io",
      username: "ali",
      password: "sesame",
    });
    assert.equal((await user.get("a.azurecr.io")).password, "sesame");
    assert.equal((await user.get(acr.host)).username, "");
  });

  it("are shown to Azure's own hosts only", () => {
    for (const host of [
      "mine.azurecr.io",
      "mine-abc123.azurecr.io",
      "mine.azurecr.cn",
      "mine.westeurope.data.azurecr.io",
    ]) {
      assert.ok(isAcr(host), host);
    }
    for (const host of [
      "mine.azurecr.io.example.com",
      "azurecr.io",
      "mine.azurecr.example",
      "mine.azurecr.io:443",
    ]) {
      assert.ok(!isAcr(host), host);
    }
  });
});
