/** Pulls from Debian's `docker-registry` over loopback. */
import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { before, describe, it, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";

import { unpackedByPlatform } from "../../src/backends/driver/ready-made-roles.ts";
import { invalid, systemError } from "../../src/common/errors.ts";
import { HeldDocuments } from "../../src/backends/images/held-documents.ts";
import type { ProgressLine } from "../../src/backends/images/progress.ts";
import type { PullRequest } from "../../src/backends/images/pull.ts";
import { login } from "../../src/backends/images/registry-login.ts";
import { makeCertificates } from "../support/certificates.ts";
import { duringTests } from "../support/during-tests.ts";
import { openImageStore, testRegistries, type TestImageStore } from "../support/image-store.ts";
import {
  blobOf,
  busyboxImage,
  configBlob,
  type FixtureImage,
  imageId,
  indexBlob,
  indexType,
  manifestBlob,
  manifestType,
} from "../support/images.ts";
import { childrenOf, commandLineOf, Life } from "../support/processes.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";
import { forward, RegistryProxy } from "../support/registry-proxy.ts";
import { tarOf } from "../support/tar.ts";
import { until, untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const open = duringTests(() => TestRegistry.start());
const closed = duringTests(() => TestRegistry.start({ credentials: true }));

const noAuth = { identityToken: "", registryToken: "" };

async function image(text: string, size = 1000): Promise<FixtureImage> {
  return {
    layers: [
      await tarOf([{ name: "a", content: text.repeat(size) }]),
      await tarOf([{ name: "b", content: text }]),
    ],
    config: { Labels: { text } },
  };
}

async function pull(store: TestImageStore, reference: string, options: Partial<PullRequest> = {}) {
  const lines: ProgressLine[] = [];
  const pulled = await store.images.pulls.pull({
    reference,
    platform: undefined,
    auth: undefined,
    report: (line) => lines.push(line),
    signal: new AbortController().signal,
    ...options,
  });
  return { ...pulled, lines };
}

/** The lines of one layer without byte counts and repetitions. */
function statusesOf(lines: readonly ProgressLine[], digest: string): string[] {
  const statuses = lines.filter(({ id }) => id === digest.slice(7, 19)).map(({ status }) => status);
  return statuses.filter((status, index) => status !== statuses[index - 1]);
}

/** Lets the store's time pass whenever it sleeps, until the work has ended. */
async function passingTime<T>(store: TestImageStore, work: Promise<T>): Promise<T> {
  let ended = false;
  const end = (): void => {
    ended = true;
  };
  work.then(end, end);
  while (!ended) {
    await store.clock.advance(store.clock.sleeping > 0 ? 1000 : 0);
  }
  return await work;
}

async function proxied(context: TestContext): Promise<RegistryProxy> {
  const proxy = await RegistryProxy.start(open.host);
  context.after(() => proxy[Symbol.asyncDispose]());
  return proxy;
}

describe("a pull", () => {
  it("of who is not trusted takes nothing that is here for what the registry does not serve", async (context) => {
    const wanted = await image("guarded");
    await open.push("guarded", "1", wanted);
    await open.push(
      "elsewhere",
      "1",
      wanted,
      wanted.layers.map((layer) => gzipSync(layer)),
    );
    const store = await openImageStore(context);
    await pull(store, `${open.host}/guarded:1`);
    const alone = { withoutOwnAuth: true };
    const elsewhere = `${open.host}/elsewhere:1`;
    await assert.rejects(pull(store, elsewhere, alone), /is here already, by another manifest/);
    assert.equal(store.images.containers.idOf(elsewhere), undefined);

    const proxy = await proxied(context);
    const config = configBlob(wanted).digest;
    let isServed: boolean = false;
    proxy.intercept = ({ url }, response) => {
      const isConfig = url?.endsWith(config) === true && !isServed;
      if (isConfig) {
        response.writeHead(404).end();
      }
      return isConfig;
    };
    await assert.rejects(pull(store, `${proxy.host}/guarded:1`, alone), /error pulling image configuration/);
    isServed = true;
    assert.equal((await pull(store, `${proxy.host}/guarded:1`, alone)).imageId, imageId(wanted));
  });

  it("counts the values of its documents among the memory of all pulls", async (context) => {
    const store = await openImageStore(context);
    const take = context.mock.method(HeldDocuments.prototype, "take");
    const takenFor = async (count: number): Promise<number> => {
      const many = Object.fromEntries(Array.from({ length: count }, (_, n) => [n, ""]));
      const labelled = { ...(await image("many")), config: { Labels: many } };
      await open.push("many", "latest", labelled);
      await open.pushManifest("many", `${count}`, indexBlob([labelled], many).bytes, indexType);
      take.mock.resetCalls();
      await pull(store, `${open.host}/many:${count}`);
      return take.mock.calls.reduce((sum, { arguments: [bytes] }) => sum + bytes, 0);
    };
    const more = (await takenFor(10_000)) - (await takenFor(0));
    assert.ok(more > 2 * 640_000, `${more} bytes`);
  });

  it("of who is not trusted takes a name from an image of its repository alone", async (context) => {
    const store = await openImageStore(context);
    const alone = { withoutOwnAuth: true };
    const reference = `${open.host}/held:1`;
    await open.push("held", "1", await image("first"));
    await open.push("built", "1", await image("built"));
    const { imageId: built } = await pull(store, `${open.host}/built:1`);
    await store.images.catalog.tag(built, reference);
    await assert.rejects(pull(store, reference, alone), /is another image here, which is not replaced/);
    assert.equal(store.images.containers.idOf(reference), built);
    const { imageId: first } = await pull(store, reference);
    await open.push("held", "1", await image("second"));
    const { imageId: second } = await pull(store, reference, alone);
    assert.notEqual(second, first);
    assert.equal(store.images.containers.idOf(reference), second);

    await open.push("held", "1", await image("third"));
    store.preparer.beforePrepare = () => store.images.catalog.tag(built, reference);
    await assert.rejects(pull(store, reference, alone), /is another image here, which is not replaced/);
    assert.equal(store.images.containers.idOf(reference), built);
  });

  it("brings an image and tells of it as Docker does", async (context) => {
    const store = await openImageStore(context);
    const busybox = await busyboxImage();
    const layers = busybox.layers.map((layer) => gzipSync(layer));
    const manifest = await open.push("lib/busybox", "1.35", busybox, layers);
    const { lines, ...pulled } = await pull(store, `${open.host}/lib/busybox:1.35`);

    assert.deepEqual(pulled, { imageId: imageId(busybox), digest: manifest.digest });
    assert.deepEqual(lines[0], { id: "1.35", status: "Pulling from lib/busybox" });
    assert.deepEqual(lines.slice(-2), [
      { id: "", status: `Digest: ${manifest.digest}` },
      { id: "", status: `Status: Downloaded newer image for ${open.host}/lib/busybox:1.35` },
    ]);
    for (const layer of layers) {
      const statuses = statusesOf(lines, blobOf(layer).digest);
      assert.deepEqual(
        statuses,
        [
          "Pulling fs layer",
          "Downloading",
          "Verifying Checksum",
          "Download complete",
          "Extracting",
          "Pull complete",
        ],
        statuses.join(),
      );
    }
    const { record, config } = await store.images.containers.resolve(`${open.host}/lib/busybox:1.35`);
    assert.deepEqual(
      record.diffIds,
      busybox.layers.map((layer) => blobOf(layer).digest),
    );
    assert.deepEqual(record.digests, [`${open.host}/lib/busybox@${manifest.digest}`]);
    assert.deepEqual(config.cmd?.values, ["sh"]);
    assert.deepEqual(store.events(), ["pull"]);
    assert.deepEqual(await store.ingests(), []);
  });

  it("has the driver unpack layers as they come, and reads those itself that the driver refuses", async (context) => {
    const store = await openImageStore(context);
    const content = await image("ahead");
    const layers = content.layers.map((layer) => gzipSync(layer));
    await open.push("ahead", "1", content, layers);
    const [first, second] = content.layers.map((layer) => blobOf(layer));
    store.preparer.unpacksTo = async (diffId) => {
      if (diffId === second?.digest) {
        throw invalid("not a tar");
      }
      return 4711;
    };
    await pull(store, `${open.host}/ahead:1`);
    const { record } = await store.images.containers.resolve(`${open.host}/ahead:1`);
    assert.deepEqual(record.layerSizes, [4711n, BigInt(content.layers[1]?.length ?? 0)]);
    assert.deepEqual(record.diffIds, [first?.digest, second?.digest]);
  });

  it("that fails behind unpacked layers has them forgotten, but for those of other images", async (context) => {
    const store = await openImageStore(context);
    const [one, other] = [await image("kept"), await image("failing")];
    const [kept = Buffer.alloc(0)] = one.layers;
    await open.push("kept", "1", { ...one, layers: [kept] });
    await pull(store, `${open.host}/kept:1`);
    const before = [...store.preparer.layers];
    await open.push("failing", "1", { ...other, layers: [kept, ...other.layers] });
    store.preparer.unpacksTo = async (diffId) => {
      if (diffId === blobOf(other.layers.at(-1) ?? kept).digest) {
        await until(() => store.preparer.layers.size > before.length || undefined);
        throw systemError("no space left on device");
      }
      return 1;
    };
    await assert.rejects(pull(store, `${open.host}/failing:1`), /no space left on device/);
    assert.deepEqual([...store.preparer.layers], before);
    assert.deepEqual(await store.ingests(), []);
  });

  it("tells the registry on whose behalf it asks, as moby does", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    await open.push("asked", "1", await image("asked"));
    await pull(store, `${proxy.host}/asked:1`, { client: "Docker-Client/28.2.2 (linux)\r\nX: 1" });
    assert.deepEqual(
      [...proxy.userAgents],
      ["sockerless-test UpstreamClient(Docker-Client/28.2.2 \\(linux\\)X: 1)"],
    );
  });

  it("of what is there already fetches nothing but the manifest", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    await open.push("again", "1", await image("again"));
    await pull(store, `${proxy.host}/again:1`);
    proxy.requests.length = 0;
    const { lines, digest } = await pull(store, `${proxy.host}/again:1`);
    assert.deepEqual(
      proxy.requests.filter((request) => request.includes("/blobs/")),
      [],
    );
    assert.deepEqual(lines.at(-1)?.status, `Status: Image is up to date for ${proxy.host}/again:1`);
    assert.equal(lines.filter(({ id }) => id !== "").length, 1);
    assert.match(digest, /^sha256:/);
  });

  it("of what is there already brings back a layer that was put aside as damaged", async (context) => {
    const wanted = await image("damaged");
    await open.push("damaged", "1", wanted);
    const store = await openImageStore(context);
    await pull(store, `${open.host}/damaged:1`);
    const whole = await store.blobs();
    const [layer] = wanted.layers.map((each) => blobOf(each).digest);
    await rm(store.images.content.path(layer ?? ""));
    await pull(store, `${open.host}/damaged:1`);
    assert.deepEqual(await store.blobs(), whole);
  });

  it("shares layers with the images that are there", async (context) => {
    const store = await openImageStore(context);
    const first = await image("share");
    const second = { ...first, config: { Labels: { second: "yes" } } };
    await open.push("share", "1", first);
    await open.push("share", "2", second);
    await pull(store, `${open.host}/share:1`);
    const { lines } = await pull(store, `${open.host}/share:2`);
    assert.deepEqual(statusesOf(lines, blobOf(first.layers[0] as Buffer).digest), ["Already exists"]);
  });

  it("can be of a digest", async (context) => {
    const store = await openImageStore(context);
    const { digest } = await open.push("digest", "1", await image("digest"));
    const { lines } = await pull(store, `${open.host}/digest@${digest}`);
    assert.equal(lines[0]?.id, digest);
    const { record } = await store.images.containers.resolve(`${open.host}/digest@${digest}`);
    assert.deepEqual(record.names, []);
  });

  it("chooses the platform's image of an index", async (context) => {
    const store = await openImageStore(context);
    const ours = await image("ours");
    const theirs = { ...(await image("theirs")), architecture: "s390x" };
    for (const each of [ours, theirs]) {
      await open.push("multi", "part", each);
      const { digest, bytes } = manifestBlob(each);
      await open.pushManifest("multi", digest, bytes, manifestType);
    }
    const index = indexBlob([theirs, ours]);
    await open.pushManifest("multi", "1", index.bytes, indexType);
    const pulled = await pull(store, `${open.host}/multi:1`);
    assert.equal(pulled.imageId, imageId(ours));
    assert.equal(pulled.digest, index.digest);
    const platform = { os: "linux", architecture: "s390x", variant: "" } as PullRequest["platform"];
    assert.equal((await pull(store, `${open.host}/multi:1`, { platform })).imageId, imageId(theirs));
    await assert.rejects(
      pull(store, `${open.host}/multi:1`, {
        platform: { os: "linux", architecture: "riscv64", variant: "" } as PullRequest["platform"],
      }),
      { message: "no matching manifest for linux/riscv64 in the manifest list entries" },
    );
  });

  it("warns where the only image has another platform than was asked for", async (context) => {
    const store = await openImageStore(context);
    await open.push("single", "1", { ...(await image("single")), architecture: "amd64" });
    const platform = { os: "linux", architecture: "s390x", variant: "" } as PullRequest["platform"];
    const { lines } = await pull(store, `${open.host}/single:1`, { platform });
    assert.equal(
      lines.at(-1)?.status,
      `WARNING: image with reference ${open.host}/single:1 was found but its platform (linux/amd64) ` +
        "does not match the specified platform (linux/s390x)",
    );
  });

  it("fetches no layers where the driver needs none", async (context) => {
    const store = await openImageStore(context, {
      preparer: {
        keepsOwn: true,
        unpacking: unpackedByPlatform,
        prepare: async () => "",
        uploads: { kind: "relayed" },
        downloads: { kind: "relayed" },
        discard: async () => {},
      },
    });
    const proxy = await proxied(context);
    const wanted = await image("light");
    await open.push("light", "1", wanted);
    await pull(store, `${proxy.host}/light:1`);
    assert.deepEqual(
      proxy.requests.filter((request) => request.includes("/blobs/")),
      [`GET /v2/light/blobs/${configBlob(wanted).digest}`],
    );
    assert.equal((await store.blobs()).length, 2);
  });
});

describe("a pull that fails", () => {
  it("of all tags brings one after the other, page by page, and has one status", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const wanted = [await image("one"), await image("two")];
    await open.push("many", "first", wanted[0] as FixtureImage);
    await open.push("many", "second", wanted[1] as FixtureImage);
    await open.push("many", "third", wanted[1] as FixtureImage);
    proxy.intercept = (request, response) => {
      const [path, query] = request.url?.split("?") ?? [];
      if (path !== "/v2/many/tags/list") {
        return false;
      }
      if (query === undefined) {
        response.setHeader("link", '</v2/many/tags/list?last=first&n=1>; rel="next"');
      }
      const tags = query === undefined ? ["first"] : ["second", "third"];
      response.end(JSON.stringify({ name: "many", tags }));
      return true;
    };
    const pullAll = async () => {
      const lines: ProgressLine[] = [];
      const last = await store.images.pulls.pullAllTags({
        reference: `${proxy.host}/many`,
        platform: undefined,
        auth: undefined,
        report: (line) => lines.push(line),
        signal: new AbortController().signal,
      });
      return { last, told: lines.filter(({ status }) => /^(Pulling from|Status)/.test(status)) };
    };
    const from = (id: string) => ({ id, status: "Pulling from many" });
    const { last, told } = await pullAll();
    assert.equal(last?.imageId, imageId(wanted[1] as FixtureImage));
    assert.deepEqual(told, [
      from("first"),
      from("second"),
      from("third"),
      { id: "", status: `Status: Downloaded newer image for ${proxy.host}/many` },
    ]);
    assert.equal(
      store.images.containers.idOf(`${proxy.host}/many:first`),
      imageId(wanted[0] as FixtureImage),
    );
    assert.equal(
      store.images.containers.idOf(`${proxy.host}/many:third`),
      imageId(wanted[1] as FixtureImage),
    );
    const again = await pullAll();
    assert.equal(again.told.at(-1)?.status, `Status: Image is up to date for ${proxy.host}/many`);
  });

  it("of all tags ends where their list does not, or is none", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const pullAll = (repository: string) =>
      store.images.pulls.pullAllTags({
        reference: `${proxy.host}/${repository}`,
        platform: undefined,
        auth: undefined,
        report: () => {},
        signal: new AbortController().signal,
      });
    let answer = "";
    let pages = 0;
    proxy.intercept = (request, response) => {
      const isList = request.url?.includes("/tags/list") === true && answer !== "";
      if (isList) {
        pages++;
        response.setHeader("link", `<${request.url}>; rel="next"`);
        response.end(answer);
      }
      return isList;
    };
    await assert.rejects(pullAll("nothing"), {
      kind: "not-found",
      message: /repository .*nothing not found/,
    });
    answer = JSON.stringify({ tags: ["x".repeat(4_000_000)] }); // Few tags may take as much memory as many.
    await assert.rejects(pullAll("endless"), { kind: "invalid", message: /tags of endless does not end$/ });
    assert.ok(pages <= 5, `${pages} pages were read`);
    answer = "[]";
    await assert.rejects(pullAll("broken"), { kind: "invalid", message: /list of tags is none$/ });
  });

  it("never, by a registry that is silent, holds up one from another", {
    timeout: 60_000,
  }, async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    let silent = 0;
    proxy.intercept = ({ method, url }) => {
      const isLayer = method === "GET" && url?.includes("/blobs/") === true;
      if (isLayer && url?.endsWith(config) !== true) {
        silent++;
      }
      return isLayer && url?.endsWith(config) !== true;
    };
    const layers = await Promise.all(["a", "b", "c", "d"].map((name) => tarOf([{ name }])));
    const silenced: FixtureImage = { layers, config: {} };
    const config = configBlob(silenced).digest;
    await open.push("silent", "1", silenced);
    await open.push("quick", "1", await image("quick"));
    const leave = new AbortController();
    const held = pull(store, `${proxy.host}/silent:1`, { signal: leave.signal });
    await untilTrue(() => silent === 3);
    await pull(store, `${open.host}/quick:1`);
    leave.abort(new Error("left"));
    await assert.rejects(held, { message: "left" });
  });

  it("says that a tag is not there", async (context) => {
    const store = await openImageStore(context);
    await open.push("some", "1", await image("some"));
    await assert.rejects(pull(store, `${open.host}/some:2`), {
      kind: "not-found",
      message: `manifest for ${open.host}/some:2 not found: manifest unknown: manifest unknown`,
    });
  });

  it("says that a registry is away", async (context) => {
    const store = await openImageStore(context);
    await assert.rejects(pull(store, "127.0.0.1:1/x"), {
      kind: "system",
      message: 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
    });
  });

  it("refuses scratch", async (context) => {
    const store = await openImageStore(context);
    await assert.rejects(pull(store, "scratch"), {
      kind: "forbidden",
      message: "'scratch' is a reserved name",
    });
  });

  it("refuses a manifest of schema 1", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    proxy.intercept = (request, response) => {
      if (request.url !== "/v2/old/manifests/1") {
        return false;
      }
      response.setHeader("content-type", "application/vnd.docker.distribution.manifest.v1+prettyjws");
      response.end(JSON.stringify({ schemaVersion: 1, name: "old" }));
      return true;
    };
    await assert.rejects(pull(store, `${proxy.host}/old:1`), {
      kind: "invalid",
      message: /schema 1 support has been removed/,
    });
  });

  it("asks no metadata service, whomever the registry names", async (context) => {
    const store = await openImageStore(context);
    const metadata = "http://169.254.169.254/latest/meta-data/";
    const message = /this address is not asked: it gives the machine its credentials$/;
    const tokens = await proxied(context);
    tokens.intercept = (_request, response) => {
      response.writeHead(401, { "www-authenticate": `Bearer realm="${metadata}"` }).end("{}");
      return true;
    };
    await assert.rejects(pull(store, `${tokens.host}/any:1`), { message });
    const credentials = { ...noAuth, ...registryUser };
    await assert.rejects(login(credentials, tokens.host, testRegistries, context.signal), { message });
    const wanted = await image("elsewhere");
    await open.push("elsewhere", "1", wanted);
    const blobs = await proxied(context);
    blobs.intercept = (request, response) => {
      const isBlob = request.url?.includes("/blobs/") === true;
      if (isBlob) {
        response.writeHead(307, { location: metadata }).end();
      }
      return isBlob;
    };
    await assert.rejects(passingTime(store, pull(store, `${blobs.host}/elsewhere:1`)), { message });
  });

  it("refuses a manifest that is too large", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    proxy.intercept = (request, response) => {
      if (!request.url?.includes("/manifests/")) {
        return false;
      }
      response.end(request.method === "GET" ? Buffer.alloc(5 * 1024 ** 2, " ") : undefined);
      return true;
    };
    await assert.rejects(pull(store, `${proxy.host}/large:1`), {
      kind: "invalid",
      message: /is larger than 4194304 bytes$/,
    });
  });

  it("stores nothing of a layer that is not what its digest says", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const wanted = await image("forged");
    await open.push("forged", "1", wanted);
    const layer = wanted.layers[1] as Buffer;
    proxy.intercept = (request, response) => {
      const isLayer = request.url?.endsWith(blobOf(layer).digest) === true;
      if (isLayer) {
        response.end(Buffer.alloc(layer.length, "f"));
      }
      return isLayer;
    };
    await assert.rejects(pull(store, `${proxy.host}/forged:1`), {
      kind: "invalid",
      message: `filesystem layer verification failed for digest ${blobOf(layer).digest}`,
    });
    assert.deepEqual(await store.blobs(), []);
    assert.deepEqual(await store.ingests(), []);
  });

  it("ends when the client leaves, and stores nothing", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const wanted = await image("silent");
    await open.push("silent", "1", wanted);
    const abort = new AbortController();
    proxy.intercept = (request) => {
      const isLayer = request.url?.endsWith(blobOf(wanted.layers[0] as Buffer).digest) === true;
      if (isLayer) {
        abort.abort(new Error("client left"));
      }
      return isLayer;
    };
    await assert.rejects(pull(store, `${proxy.host}/silent:1`, { signal: abort.signal }), {
      message: "client left",
    });
    assert.deepEqual(await store.blobs(), []);
    assert.deepEqual(await store.ingests(), []);
  });
});

describe("a connection that is cut", () => {
  it("is resumed where it broke", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const wanted = await image("cut", 400_000);
    await open.push("cut", "1", wanted);
    const { digest } = blobOf(wanted.layers[0] as Buffer);
    const ranges: (string | undefined)[] = [];
    proxy.intercept = (request, response) => {
      if (request.url?.endsWith(digest) !== true) {
        return false;
      }
      ranges.push(request.headers.range);
      forward(open.host, request, response, ranges.length < 3 ? 300_000 : Number.POSITIVE_INFINITY);
      return true;
    };
    const { lines, imageId: pulled } = await passingTime(store, pull(store, `${proxy.host}/cut:1`));
    assert.equal(pulled, imageId(wanted));
    assert.equal(ranges.length, 3);
    assert.equal(ranges[0], undefined);
    for (const range of ranges.slice(1)) {
      assert.match(range ?? "", /^bytes=[1-9]\d*-$/);
    }
    assert.ok(lines.some(({ status }) => status === "Retrying in 1 second"));
  });

  it("counts as cut where it falls silent", async (context) => {
    const store = await openImageStore(context, {
      registry: { ...testRegistries, silenceMs: 200 },
    });
    const proxy = await proxied(context);
    const wanted = await image("silence", 100_000);
    await open.push("silence", "1", wanted);
    const layer = wanted.layers[0] as Buffer;
    const ranges: (string | undefined)[] = [];
    proxy.intercept = (request, response) => {
      const isFirst =
        request.url?.endsWith(blobOf(layer).digest) === true && ranges.push(request.headers.range) === 1;
      if (isFirst) {
        response.writeHead(200, { "content-length": layer.length });
        response.write(layer.subarray(0, 1000));
      }
      return isFirst;
    };
    const { imageId: pulled } = await passingTime(store, pull(store, `${proxy.host}/silence:1`));
    assert.equal(pulled, imageId(wanted));
    // A loaded machine may be silent for so long again.
    assert.deepEqual(ranges.slice(0, 2), [undefined, "bytes=1000-"]);
  });

  it("by the death of the process that speaks TLS is resumed too", async (context) => {
    const store = await openImageStore(context);
    const directory = scratchDirectory();
    const { server } = await makeCertificates(directory);
    const tls = { cert: await readFile(server.cert), key: await readFile(server.key) };
    const proxy = await RegistryProxy.start(open.host, tls);
    context.after(() => proxy[Symbol.asyncDispose]());
    const wanted = await image("killed", 100_000);
    await open.push("killed", "1", wanted);
    const layer = wanted.layers[0] as Buffer;
    const ranges: (string | undefined)[] = [];
    const dialers = () => childrenOf(process.pid).filter((pid) => commandLineOf(pid).endsWith(" tls-dialer"));
    proxy.intercept = (request, response) => {
      const isFirst =
        request.url?.endsWith(blobOf(layer).digest) === true && ranges.push(request.headers.range) === 1;
      if (isFirst) {
        response.writeHead(200, { "content-length": layer.length });
        response.write(layer.subarray(0, 1000), () => dialers().map((pid) => new Life(pid).kill()));
      }
      return isFirst;
    };
    const { imageId: pulled } = await passingTime(store, pull(store, `${proxy.host}/killed:1`));
    assert.equal(pulled, imageId(wanted));
    assert.ok(ranges.length > 1);
    assert.equal(dialers().length, 1);
  });

  it("is given up after the fifth time", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const wanted = await image("hopeless");
    await open.push("hopeless", "1", wanted);
    let attempts = 0;
    const kept = new WeakSet<object>();
    proxy.intercept = (request, response) => {
      const isLayer = request.url?.endsWith(blobOf(wanted.layers[0] as Buffer).digest) === true;
      if (isLayer) {
        attempts += kept.has(request.socket) ? 0 : 1; // One that is closed when it is used again is replaced at once.
        response.destroy();
      }
      kept.add(request.socket);
      return isLayer;
    };
    await assert.rejects(passingTime(store, pull(store, `${proxy.host}/hopeless:1`)), {
      kind: "system",
      message: /^Get "http:\/\/.*": EOF$/,
    });
    assert.equal(attempts, 5);
    assert.deepEqual(await store.blobs(), []);
    assert.deepEqual(await store.ingests(), []);
  });
});

describe("credentials", () => {
  const name = () => `${closed.host}/private:1`;
  before(async () => {
    await closed.push("private", "1", await image("private"));
  });

  it("open a registry that asks for them", async (context) => {
    const store = await openImageStore(context);
    const { imageId: pulled } = await pull(store, name(), { auth: { ...noAuth, ...registryUser } });
    assert.equal(pulled, imageId(await image("private")));
  });

  it("are missed where there are none", async (context) => {
    const store = await openImageStore(context);
    await assert.rejects(pull(store, name()), {
      kind: "system",
      message: `Head "http://${closed.host}/v2/private/manifests/1": no basic auth credentials`,
    });
  });

  it("are refused where they are wrong", async (context) => {
    const store = await openImageStore(context);
    await assert.rejects(pull(store, name(), { auth: { ...noAuth, ...registryUser, password: "wrong" } }), {
      kind: "system",
      message: /unauthorized: authentication required$/,
    });
    assert.deepEqual(await store.blobs(), []);
  });

  it("are checked by a login", async () => {
    const { signal } = new AbortController();
    assert.deepEqual(await login({ ...noAuth, ...registryUser }, closed.host, testRegistries, signal), {
      status: "Login Succeeded",
      identityToken: "",
    });
    await assert.rejects(
      login({ ...noAuth, ...registryUser, password: "wrong" }, closed.host, testRegistries, signal),
      { message: `login attempt to http://${closed.host}/v2/ failed with status: 401 Unauthorized` },
    );
  });
});

describe("a registry with a token server", () => {
  /** Wants a token for everything but `/v2/`'s answer 401; hands one out to whoever may have it. */
  async function tokenRegistry(
    context: TestContext,
    mayPull: (authorization: string | undefined) => boolean,
  ) {
    const proxy = await proxied(context);
    const asked: URL[] = [];
    proxy.intercept = async (request, response) => {
      const url = new URL(request.url ?? "/", `http://${proxy.host}`);
      if (url.pathname === "/token") {
        asked.push(url);
        let body = "";
        for await (const chunk of request.setEncoding("utf8")) {
          body += chunk;
        }
        const isAllowed = mayPull(
          request.headers.authorization ?? new URLSearchParams(body).get("refresh_token") ?? undefined,
        );
        response.writeHead(isAllowed ? 200 : 401, { "content-type": "application/json" });
        response.end(
          JSON.stringify(
            isAllowed
              ? { token: "t0ken", refresh_token: "kept" }
              : { details: "incorrect username or password" },
          ),
        );
        return true;
      }
      if (request.headers.authorization !== "Bearer t0ken") {
        response.writeHead(401, {
          "www-authenticate": `Bearer realm="http://${proxy.host}/token",service="test registry"`,
        });
        response.end("{}");
        return true;
      }
      return false;
    };
    return { host: proxy.host, asked };
  }

  it("lets the anonymous in where it wants to", async (context) => {
    const store = await openImageStore(context);
    const { host, asked } = await tokenRegistry(context, () => true);
    await open.push("tok/en", "1", await image("token"));
    await pull(store, `${host}/tok/en:1`);
    assert.equal(asked.length, 1);
    assert.equal(asked[0]?.searchParams.get("scope"), "repository:tok/en:pull");
    assert.equal(asked[0]?.searchParams.get("service"), "test registry");
  });

  it("is given the credentials", async (context) => {
    const store = await openImageStore(context);
    const basic = `Basic ${Buffer.from(`${registryUser.username}:${registryUser.password}`).toString("base64")}`;
    const { host } = await tokenRegistry(context, (authorization) => authorization === basic);
    await open.push("tok/en", "1", await image("token"));
    await pull(store, `${host}/tok/en:1`, { auth: { ...noAuth, ...registryUser } });
    await assert.rejects(pull(store, `${host}/tok/en:1`), {
      kind: "system",
      message: `Head "http://${host}/v2/tok/en/manifests/1": unauthorized: incorrect username or password`,
    });
  });

  it("is given an identity token", async (context) => {
    const store = await openImageStore(context);
    const { host } = await tokenRegistry(context, (authorization) => authorization === "identity");
    await open.push("tok/en", "1", await image("token"));
    await pull(store, `${host}/tok/en:1`, {
      auth: { ...noAuth, username: "<token>", password: "", identityToken: "identity" },
    });
  });

  it("tells a login a token to keep, or that it is refused", async (context) => {
    const { signal } = new AbortController();
    const basic = `Basic ${Buffer.from(`${registryUser.username}:${registryUser.password}`).toString("base64")}`;
    const { host } = await tokenRegistry(context, (authorization) => authorization === basic);
    assert.deepEqual(await login({ ...noAuth, ...registryUser }, host, testRegistries, signal), {
      status: "Login Succeeded",
      identityToken: "kept",
    });
    await assert.rejects(
      login({ ...noAuth, ...registryUser, password: "no" }, host, testRegistries, signal),
      {
        kind: "unauthorized",
        message: `Get "http://${host}/v2/": unauthorized: incorrect username or password`,
      },
    );
  });
});

describe("a redirect", () => {
  it("to another host takes no credentials along", async (context) => {
    const store = await openImageStore(context);
    const wanted = await image("elsewhere");
    await closed.push("elsewhere", "1", wanted);
    await open.push("elsewhere", "1", wanted);
    const storage = await RegistryProxy.start(open.host);
    const front = await RegistryProxy.start(closed.host);
    context.after(() => Promise.all([storage, front].map((each) => each[Symbol.asyncDispose]())));
    front.intercept = (request, response) => {
      const isBlob = request.url?.includes("/blobs/") === true;
      if (isBlob) {
        response.writeHead(307, { location: `http://${storage.host}${request.url}` }).end();
      }
      return isBlob;
    };
    const seen: (string | undefined)[] = [];
    storage.intercept = (request) => {
      seen.push(request.headers.authorization);
      return false;
    };
    await pull(store, `${front.host}/elsewhere:1`, { auth: { ...noAuth, ...registryUser } });
    assert.deepEqual(new Set(seen), new Set([undefined]));
    assert.equal(seen.length, 3);
  });
});

describe("pulls of one reference at the same time", () => {
  it("fetch each layer once, and all are told", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const wanted = await image("shared");
    await open.push("shared", "1", wanted);
    const results = await Promise.all([1, 2, 3].map(() => pull(store, `${proxy.host}/shared:1`)));
    const blobs = proxy.requests.filter((request) => request.includes("/blobs/"));
    assert.equal(blobs.length, 3);
    assert.deepEqual(new Set(results.map((result) => result.imageId)), new Set([imageId(wanted)]));
    for (const { lines } of results) {
      assert.equal(lines.at(-1)?.status, `Status: Downloaded newer image for ${proxy.host}/shared:1`);
    }
  });

  it("go on for the others when one leaves", async (context) => {
    const store = await openImageStore(context);
    const proxy = await proxied(context);
    const wanted = await image("stays");
    await open.push("stays", "1", wanted);
    const abort = new AbortController();
    const asked = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    proxy.intercept = async (request) => {
      if (request.url?.includes("/blobs/") === true) {
        asked.resolve();
        await goOn.promise;
      }
      return false;
    };
    const leaving = pull(store, `${proxy.host}/stays:1`, { signal: abort.signal });
    const staying = pull(store, `${proxy.host}/stays:1`);
    await asked.promise;
    abort.abort(new Error("left"));
    await assert.rejects(leaving, { message: "left" });
    goOn.resolve();
    assert.equal((await staying).imageId, imageId(wanted));
  });
});
