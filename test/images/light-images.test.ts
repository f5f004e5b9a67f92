/** Images of which a pull fetched manifest and configuration only, as drivers of clouds have them. */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, it, type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { pino } from "pino";

import { cloudImages } from "../../src/backends/cloud/images/cloud-images.ts";
import { unpackedByPlatform } from "../../src/backends/driver/ready-made-roles.ts";
import { ContainerConfigSchema, PlatformSchema } from "../../src/gen/sockerless/backend/v1/config_pb.ts";
import type { Credentials } from "../../src/backends/images/registry/credentials.ts";
import { login } from "../../src/backends/images/registry-login.ts";
import { duringTests } from "../support/during-tests.ts";
import {
  openImageStore,
  RecordingPreparer,
  streamOf,
  testRegistries,
  type TestImageStore,
} from "../support/image-store.ts";
import { blobOf, configBlob, dockerArchive, type FixtureImage, imageId } from "../support/images.ts";
import { filesWithCredentials, registryUser, TestRegistry } from "../support/registry.ts";
import { RegistryProxy } from "../support/registry-proxy.ts";
import { entriesOf, tarOf } from "../support/tar.ts";
import { untilTrue } from "../support/until.ts";

const signal = new AbortController().signal;
const open = duringTests(() => TestRegistry.start());
const closed = duringTests(() => TestRegistry.start({ credentials: true }));

async function image(text: string): Promise<FixtureImage> {
  return {
    layers: [
      await tarOf([{ name: "base", content: "the base" }]),
      await tarOf([{ name: "top", content: text }]),
    ],
    config: { Labels: { text } },
  };
}

async function lightStore(context: TestContext): Promise<TestImageStore> {
  const preparer = new RecordingPreparer();
  preparer.unpacking = unpackedByPlatform;
  return await openImageStore(context, { preparer });
}

async function pull(store: TestImageStore, reference: string, auth?: Credentials): Promise<void> {
  await store.images.pulls.pull({ reference, platform: undefined, auth, report: () => {}, signal });
}

async function save(store: TestImageStore, ...references: string[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of store.images.archives.save(references, undefined, signal)) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const user: Credentials = { ...registryUser, identityToken: "", registryToken: "" };

/** A cloud's images, on one without a repository for those that are only here. */
class CloudPreparer extends RecordingPreparer {
  override unpacking = unpackedByPlatform;
  override keepsOwn = false;
  /** The reference of images that are only here; undefined: they cannot run. */
  own: string | undefined;
  readonly #images = cloudImages({
    repository: undefined,
    setting: "cloud.repository",
    registryName: "cloud",
    credentials: { get: async () => assert.fail("no credentials are needed"), forget: () => {} },
    isOwnRegistry: () => false,
    workDirectory: path.join(tmpdir(), "sockerless-no-uploads"),
    logger: pino({ level: "silent" }),
  });

  override async prepare(...given: Parameters<RecordingPreparer["prepare"]>): Promise<string> {
    await this.beforePrepare?.();
    const [{ layerSizes, driverReference }] = given;
    return layerSizes.length > 0 && driverReference === "" && this.own !== undefined
      ? this.own
      : await this.#images.prepare(...given);
  }
}

describe("an image's configuration under layers that are not its own", () => {
  async function setUp(context: TestContext, name: string) {
    const preparer = new CloudPreparer();
    const store = await openImageStore(context, { preparer });
    const real = await image(name);
    const { digest } = await open.push(`${name}/real`, "1", real);
    const others = (await image("other layers")).layers;
    await open.push(`${name}/claimed`, "1", real, others);
    return {
      ...{
        store,
        preparer,
        real,
        digest,
        genuine: `${open.host}/${name}/real`,
        claimed: `${open.host}/${name}/claimed`,
      },
      record: () => store.state.images.get(imageId(real)) ?? assert.fail("the image is there"),
    };
  }

  it("gives way to the layers that fit, which a later pull compares", async (context) => {
    const { store, genuine, claimed, digest, record } = await setUp(context, "first");
    await pull(store, `${claimed}:1`);
    await pull(store, `${genuine}:1`);
    assert.equal(record().manifestDigest, digest);
    assert.equal(record().driverReference, `${genuine}@${digest}`);
    await pull(store, `${claimed}:1`);
    assert.equal(record().driverReference, `${genuine}@${digest}`);
  });

  it("is refused where the image is here", async (context) => {
    const { store, genuine, claimed, digest, record } = await setUp(context, "second");
    await pull(store, `${genuine}:1`);
    await assert.rejects(pull(store, `${claimed}:1`), /layers from manifest don't match image configuration/);
    assert.equal(record().manifestDigest, digest);
    assert.equal(record().driverReference, `${genuine}@${digest}`);
    assert.deepEqual(record().names, [`${genuine}:1`]);
  });

  it("is not taken over by a pull that began before it came", async (context) => {
    const { store, preparer, genuine, claimed, digest, record } = await setUp(context, "beside");
    const [begun, pulled] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    preparer.beforePrepare = async () => {
      preparer.beforePrepare = undefined;
      begun.resolve();
      await pulled.promise;
    };
    const pulling = pull(store, `${genuine}:1`);
    await begun.promise;
    await pull(store, `${claimed}:1`);
    pulled.resolve();
    await assert.rejects(pulling, { kind: "conflict", message: /has come by another manifest meanwhile/ });
    await pull(store, `${genuine}:1`);
    assert.equal(record().driverReference, `${genuine}@${digest}`);
  });

  it("gives no reference to an image that was loaded meanwhile", async (context) => {
    const { store, preparer, real, claimed, record } = await setUp(context, "meanwhile");
    const [begun, loaded] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    preparer.beforePrepare = async () => {
      preparer.beforePrepare = undefined;
      begun.resolve();
      await loaded.promise;
    };
    const pulling = pull(store, `${claimed}:1`);
    await begun.promise;
    const archive = streamOf(await dockerArchive([{ image: real, tags: ["loaded:1"] }]));
    preparer.own = "registry.example/own@sha256:1";
    await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    loaded.resolve();
    await pulling;
    assert.equal(record().driverReference, preparer.own);
  });

  it("is not taken where a load has confirmed the pulled layers, which run from their registry", async (context) => {
    const { store, real, genuine, claimed, digest, record } = await setUp(context, "confirmed");
    await pull(store, `${genuine}:1`);
    const archive = streamOf(await dockerArchive([{ image: real, tags: ["loaded:1"] }]));
    await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    assert.equal(store.images.containers.idOf("loaded:1"), imageId(real));
    assert.equal(record().layerSizes.length, 2);
    await pull(store, `${claimed}:1`);
    assert.equal(record().manifestDigest, digest);
    assert.equal(record().driverReference, `${genuine}@${digest}`);
    await save(store, "loaded:1");
  });

  it("does not run what was loaded", async (context) => {
    const { store, real, claimed, record } = await setUp(context, "loaded");
    await pull(store, `${claimed}:1`);
    const before = record().driverReference;
    const archive = streamOf(await dockerArchive([{ image: real, tags: ["loaded:1"] }]));
    const loading = store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    await assert.rejects(loading, /tasks cannot run an image that is only here/);
    assert.equal(store.images.containers.idOf("loaded:1"), undefined);
    assert.equal(record().driverReference, before);
  });
});

describe("an image of one manifest in two repositories", () => {
  it("runs from the one of the last pull, unless that is not trusted with what is here", async (context) => {
    const store = await openImageStore(context, { preparer: new CloudPreparer() });
    const wanted = await image("mirrored");
    const { digest } = await open.push("mirrored/one", "1", wanted);
    await open.push("mirrored/two", "1", wanted);
    const [one, two] = [`${open.host}/mirrored/one`, `${open.host}/mirrored/two`];
    const runsFrom = () => store.state.images.get(imageId(wanted))?.driverReference;
    await pull(store, `${one}:1`);
    await pull(store, `${two}:1`);
    assert.equal(runsFrom(), `${two}@${digest}`);
    const request = { reference: `${one}:1`, platform: undefined, auth: undefined, report: () => {}, signal };
    await store.images.pulls.pull({ ...request, withoutOwnAuth: true });
    assert.equal(runsFrom(), `${two}@${digest}`);
  });
});

describe("layers that an archive omits", () => {
  /** An image on a registry, one that stands on it, and the archive of that one without the first one's layers. */
  async function setUp(context: TestContext, name: string, more: readonly Buffer[] = []) {
    const preparer = new CloudPreparer();
    preparer.own = "registry.example/own@sha256:1";
    const store = await openImageStore(context, { preparer });
    const proxy = await RegistryProxy.start(open.host);
    context.after(() => proxy[Symbol.asyncDispose]());
    const small = await image(name);
    const base = { ...small, layers: [...small.layers, ...more] };
    await open.push(name, "1", base);
    const layer = await tarOf([{ name: "step", content: name }]);
    const state = { layers: [...base.layers, layer], config: { Labels: { of: name } } };
    const Layers = state.layers.map((each) => blobOf(each).digest);
    const archive = await tarOf([
      { name: "config.json", content: configBlob(state).bytes },
      { name: blobOf(layer).digest, content: layer },
      { name: "manifest.json", content: JSON.stringify([{ Config: "config.json", RepoTags: null, Layers }]) },
    ]);
    const load = (ended = signal) =>
      store.images.archives.load({
        archive: streamOf(archive),
        platform: undefined,
        report: () => {},
        signal: ended,
      });
    return { store, proxy, base, state, load };
  }

  /** Has a proxy keep what answers its requests for blobs; resolves at the first one. */
  function answerBlobs(
    proxy: RegistryProxy,
    answer: (response: ServerResponse) => void,
    of = "/blobs/",
  ): Promise<void> {
    const asked = Promise.withResolvers<void>();
    proxy.intercept = ({ url }, response) => {
      const isBlob = url?.includes(of) === true;
      if (isBlob) {
        asked.resolve();
        answer(response);
      }
      return isBlob;
    };
    return asked.promise;
  }

  it("come from another image that has them where one's registry refuses", async (context) => {
    const { store, proxy, base, state, load } = await setUp(context, "refused");
    await open.push("refused-claims", "1", { ...base, config: { Labels: { claims: "refused" } } });
    await pull(store, `${proxy.host}/refused-claims:1`);
    await pull(store, `${open.host}/refused:1`);
    void answerBlobs(proxy, (response) => response.writeHead(404).end());
    await load();
    assert.equal(store.state.images.get(imageId(state))?.layerSizes.length, 3);
  });

  it("come from another image that has them where one's registry gives nothing", async (context) => {
    const { store, proxy, base, state, load } = await setUp(context, "silent");
    await open.push("silent-claims", "1", { ...base, config: { Labels: { claims: "silent" } } });
    await pull(store, `${proxy.host}/silent-claims:1`);
    await pull(store, `${open.host}/silent:1`);
    const asked = answerBlobs(proxy, () => {});
    const loading = load();
    await asked;
    await store.clock.advance(60_000);
    await loading;
    assert.equal(store.state.images.get(imageId(state))?.layerSizes.length, 3);
  });

  it("come from the repository of the last pull", async (context) => {
    const { store, proxy, base, state, load } = await setUp(context, "last");
    await open.push("before-last", "1", base);
    await pull(store, `${proxy.host}/before-last:1`);
    await pull(store, `${proxy.host}/last:1`);
    void answerBlobs(proxy, () => {}, "/before-last/blobs/");
    await load();
    assert.equal(store.state.images.get(imageId(state))?.layerSizes.length, 3);
  });

  it("come from another repository of their image where one gives nothing", async (context) => {
    const { store, proxy, state, load } = await setUp(context, "twice");
    await pull(store, `${open.host}/twice:1`);
    await pull(store, `${proxy.host}/twice:1`);
    const asked = answerBlobs(proxy, () => {});
    const loading = load();
    await asked;
    await store.clock.advance(60_000);
    await loading;
    assert.equal(store.state.images.get(imageId(state))?.layerSizes.length, 3);
  });

  it("are left to a repository for as long as it gives them, by all who wait", async (context) => {
    const large = await tarOf([{ name: "large", content: "x".repeat(4 * 1024 ** 2) }]);
    const { store, proxy, base, state, load } = await setUp(context, "slow", [large]);
    const other = await RegistryProxy.start(open.host);
    context.after(() => other[Symbol.asyncDispose]());
    const layers = base.layers.toReversed();
    await open.push("slow-claims", "1", { layers, config: { Labels: { claims: "slow" } } });
    await pull(store, `${other.host}/slow-claims:1`);
    await pull(store, `${other.host}/slow:1`);
    await pull(store, `${proxy.host}/slow:1`);
    other.requests.length = 0;
    void answerBlobs(
      proxy,
      (response) => {
        response.writeHead(200, { "content-length": large.length });
        response.write(large.subarray(1));
      },
      blobOf(large).digest,
    );
    const loading = Promise.all([load(), load()]);
    await untilTrue(async () => {
      const files = (await store.ingests()).map((name) =>
        stat(path.join(store.directory, "blobs/ingest", name)),
      );
      const sizes = (await Promise.allSettled(files)).map((file) =>
        file.status === "fulfilled" ? file.value.size : 0,
      );
      return sizes.some((size) => size > large.length - 300 * 1024);
    });
    await store.clock.advance(15_000);
    await setTimeout(50); // A request of the other one would come.
    assert.deepEqual(other.requests, []);
    await store.clock.advance(15_000);
    await loading;
    assert.equal(store.state.images.get(imageId(state))?.layerSizes.length, 4);
  });

  it("are waited for by a request no longer than it lasts", async (context) => {
    const { store, proxy, load } = await setUp(context, "waited");
    await pull(store, `${proxy.host}/waited:1`);
    const asked = answerBlobs(proxy, () => {});
    const [first, second] = [new AbortController(), new AbortController()];
    const loads = [load(first.signal), load(second.signal)];
    await asked;
    second.abort(new Error("the second one left"));
    await assert.rejects(loads[1] ?? assert.fail(), /the second one left/);
    first.abort(new Error("the first one left"));
    await assert.rejects(loads[0] ?? assert.fail(), /the first one left/);
  });
});

describe("an image whose layers were not fetched", () => {
  it("has them fetched with the credentials of its pull, which are in memory alone", async (context) => {
    const store = await lightStore(context);
    const reference = `${closed.host}/kept:1`;
    await closed.push("kept", "1", await image("kept"));
    await login(user, closed.host, testRegistries, signal);
    await pull(store, reference, user);
    await save(store, reference);
    assert.deepEqual(await filesWithCredentials(store.directory), []);
  });

  it("is saved beside one that a push compresses while they are fetched", async (context) => {
    const proxy = await RegistryProxy.start(open.host);
    context.after(() => proxy[Symbol.asyncDispose]());
    const store = await lightStore(context);
    const [fetched, beside] = [`${proxy.host}/fetched:1`, `${open.host}/beside:1`];
    await open.push("fetched", "1", await image("fetched"));
    await pull(store, fetched);
    const whole = await image("beside");
    const archive = streamOf(await dockerArchive([{ image: whole, tags: [beside] }]));
    await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    const [asked, pushed] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()];
    proxy.intercept = async () => {
      asked.resolve(undefined);
      await pushed.promise;
      return false;
    };
    const saving = save(store, fetched, beside);
    await asked.promise;
    const request = { reference: beside, announce: false, platform: undefined, auth: undefined, signal };
    await store.images.pushes.push({ ...request, report: () => {} });
    pushed.resolve(undefined);
    const contents = (await entriesOf(await saving)).map(({ content }) => content);
    assert.ok(whole.layers.every((layer) => contents.includes(layer.toString())));
  });

  it("is saved with them, and can be loaded elsewhere", async (context) => {
    const store = await lightStore(context);
    const wanted = await image("saved");
    await open.push("saved", "1", wanted);
    await pull(store, `${open.host}/saved:1`);
    assert.equal((await store.blobs()).length, 2);
    const archive = await save(store, `${open.host}/saved:1`);
    const other = await openImageStore(context);
    await other.images.archives.load({
      archive: streamOf(archive),
      platform: undefined,
      report: () => {},
      signal,
    });
    assert.equal(other.images.containers.idOf(`${open.host}/saved:1`), imageId(wanted));
    assert.equal((await store.blobs()).length, 4, "they are kept");
    assert.equal(store.state.images.get(imageId(wanted))?.layerSizes.length, 2);
  });

  it("is pushed to another registry under another name", async (context) => {
    const store = await lightStore(context);
    await closed.push("private", "1", await image("pushed"));
    await pull(store, `${closed.host}/private:1`, user);
    await store.images.catalog.tag(`${closed.host}/private:1`, `${open.host}/copied:2`);
    const reference = `${open.host}/copied:2`;
    await store.images.pushes.push({
      reference,
      announce: true,
      platform: undefined,
      auth: undefined,
      report: () => {},
      signal,
    });
    const other = await openImageStore(context);
    await pull(other, reference);
    assert.equal(other.state.images.size, 1);
  });

  it("is what a commit stands on", async (context) => {
    const store = await lightStore(context);
    const wanted = await image("committed");
    await open.push("parent", "1", wanted);
    await pull(store, `${open.host}/parent:1`);
    const { id } = await store.images.containers.commit({
      parentId: imageId(wanted),
      layer: streamOf(await tarOf([{ name: "own", content: "mine" }])),
      config: create(ContainerConfigSchema),
      createdBy: "",
      author: "",
      comment: "",
      reference: "child:1",
      signal,
    });
    const child = store.state.images.get(id);
    assert.equal(child?.layerSizes.length, 3);
    assert.deepEqual(child?.diffIds.slice(0, 2), store.state.images.get(imageId(wanted))?.diffIds);
  });

  it("names the registry that does not give them any more", async (context) => {
    const store = await lightStore(context);
    const going = await TestRegistry.start();
    await going.push("gone", "1", await image("gone"));
    await pull(store, `${going.host}/gone:1`);
    await going[Symbol.asyncDispose]();
    await assert.rejects(save(store, `${going.host}/gone:1`), {
      kind: "system",
      message: new RegExp(
        `^the layers of image sha256:.* are still at ${going.host}/gone, which does not give them: `,
      ),
    });
  });

  it("is of the platform that the cloud runs, where nobody says another", async (context) => {
    const store = await openImageStore(context, {
      defaultPlatform: create(PlatformSchema, { os: "linux", architecture: "s390x" }),
    });
    const id = await store.images.imports.fromStream({
      archive: streamOf(await tarOf([{ name: "file" }])),
      reference: "",
      comment: "",
      changes: [],
      platform: undefined,
      signal,
    });
    assert.equal(store.state.images.get(id)?.platform?.architecture, "s390x");
  });
});
