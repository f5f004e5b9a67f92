/** Images of which a pull fetched manifest and configuration only, as drivers of clouds have them. */
import assert from "node:assert/strict";
import { after, before, describe, it, type TestContext } from "node:test";

import { create } from "@bufbuild/protobuf";
import { unpackedByPlatform } from "../../src/backends/driver/ready-made-roles.ts";
import { ContainerConfigSchema, PlatformSchema } from "../../src/gen/sockerless/backend/v1/config_pb.ts";
import type { Credentials } from "../../src/backends/images/registry/credentials.ts";
import { login } from "../../src/backends/images/registry-login.ts";
import {
  openImageStore,
  RecordingPreparer,
  streamOf,
  testRegistries,
  type TestImageStore,
} from "../support/image-store.ts";
import { dockerArchive, type FixtureImage, imageId } from "../support/images.ts";
import { filesWithCredentials, registryUser, TestRegistry } from "../support/registry.ts";
import { RegistryProxy } from "../support/registry-proxy.ts";
import { entriesOf, tarOf } from "../support/tar.ts";

const signal = new AbortController().signal;
let open: TestRegistry;
let closed: TestRegistry;
before(async () => {
  [open, closed] = await Promise.all([TestRegistry.start(), TestRegistry.start({ credentials: true })]);
});
after(async () => {
  await Promise.all([open[Symbol.asyncDispose](), closed[Symbol.asyncDispose]()]);
});

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
