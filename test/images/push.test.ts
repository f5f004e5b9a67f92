/** Pushes to Debian's `docker-registry` over loopback. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";

import { sha256Of } from "../../src/backends/images/digest.ts";
import type { ProgressLine } from "../../src/backends/images/progress.ts";
import type { PushRequest } from "../../src/backends/images/push.ts";
import { duringTests } from "../support/during-tests.ts";
import { openImageStore, streamOf, testRegistries, type TestImageStore } from "../support/image-store.ts";
import { configBlob, dockerArchive, type FixtureImage, imageId } from "../support/images.ts";
import { TestRegistry } from "../support/registry.ts";
import { type Intercept, RegistryProxy } from "../support/registry-proxy.ts";
import { entriesOf, tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";

const signal = new AbortController().signal;
const registry = duringTests(() => TestRegistry.start());

async function image(text: string, repeat = 1000): Promise<FixtureImage> {
  return {
    layers: [await tarOf([{ name: "base" }]), await tarOf([{ name: "top", content: text.repeat(repeat) }])],
    config: { Labels: { text } },
  };
}

/** A store with one image under these names. */
async function storeWith(
  context: TestContext,
  wanted: FixtureImage,
  ...tags: string[]
): Promise<TestImageStore> {
  const store = await openImageStore(context);
  const archive = streamOf(await dockerArchive([{ image: wanted, tags }]));
  await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
  return store;
}

async function push(store: TestImageStore, reference: string, options: Partial<PushRequest> = {}) {
  const lines: ProgressLine[] = [];
  const pushed = await store.images.pushes.push({
    reference,
    announce: true,
    platform: undefined,
    auth: undefined,
    report: (line) => lines.push(line),
    signal,
    ...options,
  });
  return { ...pushed, lines };
}

/** Statuses of the layers' lines, byte counts left out. */
const statuses = (lines: readonly ProgressLine[]): string[] =>
  lines.filter(({ id, status }) => id !== "" && status !== "Pushing").map(({ status }) => status);

async function manifestOf(repository: string, tag: string) {
  const response = await fetch(`http://${registry.host}/v2/${repository}/manifests/${tag}`, {
    headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
  });
  return (await response.json()) as { mediaType: string; layers: { mediaType: string }[] };
}

async function proxied(context: TestContext, intercept: Intercept): Promise<RegistryProxy> {
  const proxy = await RegistryProxy.start(registry.host);
  context.after(() => proxy[Symbol.asyncDispose]());
  proxy.intercept = intercept;
  return proxy;
}

describe("a push", () => {
  it("prepares every layer, sends it compressed, and gives the image a digest", async (context) => {
    const name = `${registry.host}/plain:1`;
    const store = await storeWith(context, await image("plain"), name);
    const { lines, digest, tag, size } = await push(store, name);
    assert.deepEqual(statuses(lines), ["Preparing", "Preparing", "Pushed", "Pushed"]);
    assert.deepEqual(lines.at(0), {
      id: "",
      status: `The push refers to repository [${registry.host}/plain]`,
    });
    assert.deepEqual(lines.at(-1), { id: "", status: `1: digest: ${digest} size: ${size}` });
    assert.equal(tag, "1");
    assert.deepEqual(store.images.catalog.inspect(name).repoDigests, [`${registry.host}/plain@${digest}`]);
    assert.equal(store.events().at(-1), "push");
    const manifest = await manifestOf("plain", "1");
    assert.ok(manifest.layers.every(({ mediaType }) => mediaType.endsWith("tar+gzip")));
    // Blobs that were made for the push alone are gone: configuration, manifest and two layers stay.
    assert.equal((await store.blobs()).length, 4);
    assert.equal((await push(store, name)).digest, digest);
  });

  it("sends zstd where that is asked for, and what was pulled as it was", async (context) => {
    const asked = { registry: { ...testRegistries, compression: "zstd" as const } };
    const name = `${registry.host}/zstd:1`;
    const wanted = await image("zstd");
    const store = await storeWith(context, wanted, name);
    const made = await openImageStore(context, asked);
    const archive = streamOf(await dockerArchive([{ image: wanted, tags: [name] }]));
    await made.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    const { digest } = await push(made, name);
    const manifest = await manifestOf("zstd", "1");
    assert.equal(manifest.mediaType, "application/vnd.oci.image.manifest.v1+json");
    assert.deepEqual(
      manifest.layers.map(({ mediaType }) => mediaType),
      Array.from({ length: 2 }, () => "application/vnd.oci.image.layer.v1.tar+zstd"),
    );
    const pulled = await openImageStore(context, asked);
    const pull = { platform: undefined, auth: undefined, report: () => {}, signal };
    await pulled.images.pulls.pull({ reference: name, ...pull });
    assert.equal(pulled.images.containers.idOf(name), imageId(wanted));

    // One that was compressed otherwise keeps its digests.
    const gzipped = `${registry.host}/gzip:1`;
    await store.images.catalog.tag(name, gzipped);
    const before = (await push(store, gzipped)).digest;
    assert.notEqual(before, digest);
    const other = await openImageStore(context, asked);
    await other.images.pulls.pull({ reference: gzipped, ...pull });
    const again = `${registry.host}/again/gzip:1`;
    await other.images.catalog.tag(gzipped, again);
    assert.equal((await push(other, again)).digest, before);
  });

  it("leaves the image as the registry has it, so that nothing is compressed or sent again", async (context) => {
    const proxy = await proxied(context, () => false);
    const name = `${proxy.host}/again/imported:1`;
    const tar = await tarOf([{ name: "file", content: "imported".repeat(10_000) }]);
    const store = await openImageStore(context);
    const imported = {
      archive: streamOf(tar),
      reference: name,
      comment: "",
      changes: [],
      platform: undefined,
    };
    const id = await store.images.imports.fromStream({ ...imported, signal });
    const { digest } = await push(store, name);

    const again = await store.reopen();
    const record = again.state.images.get(id);
    assert.equal(record?.manifestDigest, digest);
    assert.equal(record.layerSizes[0], BigInt(tar.length));
    assert.deepEqual(await again.blobs(), [id, digest, ...record.layerDigests].toSorted());
    assert.ok(!(await again.blobs()).includes(sha256Of(tar)), "what was compressed is not here any more");
    proxy.requests.length = 0;
    assert.deepEqual(statuses((await push(again, name)).lines), ["Preparing", "Layer already exists"]);
    assert.deepEqual(
      proxy.requests.filter((request) => !request.startsWith("GET")),
      [
        `HEAD /v2/again/imported/blobs/${record.layerDigests[0]}`,
        `HEAD /v2/again/imported/blobs/${id}`,
        "PUT /v2/again/imported/manifests/1",
      ],
    );
    const saved: Uint8Array[] = [];
    for await (const chunk of again.images.archives.save([name], undefined, signal)) {
      saved.push(chunk);
    }
    assert.ok((await entriesOf(Buffer.concat(saved))).some(({ content }) => content === tar.toString()));
  });

  it("takes a layer that another image has compressed as it is there", async (context) => {
    const name = `${registry.host}/shared/plain:1`;
    const shared = await tarOf([{ name: "shared", content: "shared".repeat(10_000) }]);
    const plain = { layers: [shared, await tarOf([{ name: "own" }])], config: {} };
    const store = await storeWith(context, plain, name);
    const other: FixtureImage = { layers: [shared], config: { Labels: { other: "" } } };
    const compressed = gzipSync(shared, { level: 1 });
    const entries = [
      { name: "c", content: configBlob(other).bytes },
      { name: "l", content: compressed },
      { name: "manifest.json", content: JSON.stringify([{ Config: "c", Layers: ["l"] }]) },
    ];
    const archive = streamOf(await tarOf(entries));
    await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    await push(store, name);
    assert.equal(store.state.images.get(imageId(plain))?.layerDigests[0], sha256Of(compressed));
  });

  it("has its layers, whatever another push puts in their place meanwhile", async (context) => {
    const other = `${registry.host}/beside/other:1`;
    const pushed = Promise.withResolvers<undefined>();
    const isWaiting = Promise.withResolvers<undefined>();
    const proxy = await proxied(context, async ({ url }) => {
      if (url === "/v2/") {
        isWaiting.resolve(undefined);
        await pushed.promise;
      }
      return false;
    });
    const name = `${proxy.host}/beside/one:1`;
    const store = await storeWith(context, await image("beside"), name, other);
    const pushing = push(store, name);
    await isWaiting.promise;
    const { digest } = await push(store, other);
    pushed.resolve(undefined);
    assert.equal((await pushing).digest, digest);
    assert.equal((await store.blobs()).length, 4);
  });

  it("has the registry take layers from another repository of its own", async (context) => {
    const [here, there] = [`${registry.host}/mount/here:1`, `${registry.host}/mount/there:1`];
    const compressed = `${registry.host}/mount/compressed:1`;
    const first = await storeWith(context, await image("mount"), here);
    await push(first, here);
    await first.images.catalog.tag(here, compressed);
    assert.deepEqual(statuses((await push(first, compressed)).lines).slice(2), [
      "Mounted from mount/here",
      "Mounted from mount/here",
    ]);
    await first.images.removal.remove(compressed, false);
    await first.images.removal.remove(here, false);
    await first.images.pulls.pull({
      reference: here,
      platform: undefined,
      auth: undefined,
      report: () => {},
      signal,
    });
    await first.images.catalog.tag(here, there);
    const { lines } = await push(first, there);
    assert.deepEqual(statuses(lines).slice(2), ["Mounted from mount/here", "Mounted from mount/here"]);
  });

  it("is tried again where the registry fails", async (context) => {
    let failures = 0;
    const proxy = await proxied(context, ({ method }, response) => {
      if (method !== "POST" || failures > 0) {
        return false;
      }
      failures += 1;
      response.writeHead(503).end();
      return true;
    });
    const name = `${proxy.host}/again:1`;
    const store = await storeWith(
      context,
      { ...(await image("again")), layers: [await tarOf([{ name: "one" }])] },
      name,
    );
    const pushing = push(store, name);
    await until(async () => store.clock.sleeping > 0 || undefined);
    await store.clock.advance(1000);
    const { lines } = await pushing;
    assert.deepEqual(statuses(lines), ["Preparing", "Retrying in 1 second", "Pushed"]);
  });

  it("asks the token server for the right to write", async (context) => {
    const scopes = new Set<string>();
    const proxy = await proxied(context, (request, response) => {
      const url = new URL(request.url ?? "", "http://any");
      if (url.pathname === "/token") {
        for (const scope of url.searchParams.getAll("scope")) {
          scopes.add(scope);
        }
        response.end(JSON.stringify({ token: "t0ken" }));
        return true;
      }
      if (request.headers.authorization === "Bearer t0ken") {
        return false;
      }
      const realm = `http://${request.headers.host}/token`;
      response.writeHead(401, { "www-authenticate": `Bearer realm="${realm}",service="test"` }).end("{}");
      return true;
    });
    const name = `${proxy.host}/tok/en:1`;
    await push(await storeWith(context, await image("token"), name), name);
    assert.deepEqual([...scopes], ["repository:tok/en:pull,push"]);
  });

  it("is refused in the registry's words, also before all of a layer is sent", async (context) => {
    const proxy = await proxied(context, (request, response) => {
      if (request.method === "POST") {
        response.writeHead(202, { location: "/upload/here" }).end();
        return true;
      }
      if (request.method === "PUT") {
        const errors = [{ code: "DENIED", message: "no room for you" }];
        response.writeHead(403).end(JSON.stringify({ errors }));
        return true;
      }
      return false;
    });
    const name = `${proxy.host}/refused:1`;
    const random = Buffer.alloc(4_000_000, 0);
    crypto.getRandomValues(random.subarray(0, 65_536));
    const layer = await tarOf([
      { name: "large", content: Buffer.concat(Array.from({ length: 4 }, () => random)) },
    ]);
    const store = await storeWith(context, { layers: [layer], config: {} }, name);
    await assert.rejects(push(store, name), { kind: "system", message: "denied: no room for you" });
    assert.deepEqual(store.images.catalog.inspect(name).repoDigests, []);
  });

  it("ends when its client leaves", async (context) => {
    const leaving = new AbortController();
    const proxy = await proxied(context, ({ method }) => {
      if (method === "POST") {
        leaving.abort(new Error("left"));
        return true; // never answered
      }
      return false;
    });
    const name = `${proxy.host}/left:1`;
    const store = await storeWith(context, await image("left"), name);
    await assert.rejects(push(store, name, { signal: leaving.signal }), /left/);
    assert.equal((await store.blobs()).length, 4);
  });
});
