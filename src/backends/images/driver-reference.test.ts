import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";

import { openImageStore, streamOf } from "../../../test/support/image-store.ts";
import { dockerArchive, imageId } from "../../../test/support/images.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { untilTrue } from "../../../test/support/until.ts";

const signal = new AbortController().signal;

describe("a driver's reference to an image", () => {
  it("is kept in the image's record, renewed once per process, and passed to the driver at the end", async (context) => {
    const store = await openImageStore(context);
    store.preparer.reference = "registry/repository@sha256:1";
    const archive = streamOf(await tarOf([{ name: "file", content: "text" }]));
    const signal = AbortSignal.timeout(60_000);
    const id = await store.images.imports.fromStream({
      archive,
      reference: "imported:1",
      comment: "",
      changes: [],
      platform: undefined,
      signal,
    });
    assert.equal(store.state.images.get(id)?.driverReference, "registry/repository@sha256:1");

    const again = await store.reopen();
    again.preparer.reference = "registry/repository@sha256:2";
    const { record } = await again.images.containers.resolve("imported:1");
    await again.images.containers.makeRunnable(record, signal);
    await again.images.containers.makeRunnable(record, signal);
    assert.deepEqual(again.preparer.prepared, [id]);
    assert.equal(again.state.images.get(id)?.driverReference, "registry/repository@sha256:2");
    await again.images.removal.remove("imported:1", false);
    assert.deepEqual(again.preparer.discarded, [id]);
  });

  /** A store with an image to which the driver refers, and another import of the same. */
  async function imported(context: TestContext) {
    const store = await openImageStore(context);
    store.preparer.reference = "registry/repository@sha256:1";
    const bytes = await tarOf([{ name: "file", content: "text" }]);
    const load = async (): Promise<string> => {
      const image = { layers: [bytes], config: {} };
      const archive = streamOf(await dockerArchive([{ image, tags: ["loaded:1"] }]));
      await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
      return imageId(image);
    };
    return { store, load, id: await load() };
  }

  it("is passed to the driver where the image comes again, with another one, while it is removed", async (context) => {
    const { store, load, id } = await imported(context);
    const written = Promise.withResolvers<void>();
    const commit = store.state.commit.bind(store.state);
    const slow = async (change: Parameters<typeof commit>[0]): Promise<void> => {
      await Promise.all([commit(change), written.promise]);
    };
    context.mock.method(store.state, "commit", slow, { times: 1 });
    const removed = store.images.removal.remove("loaded:1", true);
    await untilTrue(() => store.state.images.size === 0);
    store.preparer.reference = "registry/repository@sha256:2";
    await load();
    written.resolve();
    await removed;
    assert.deepEqual(store.preparer.discarded, [id]);
    assert.equal(store.state.images.get(id)?.driverReference, "registry/repository@sha256:2");
  });

  it("is passed to the driver though the image's layers cannot be deleted", async (context) => {
    const { store, id } = await imported(context);
    assert.ok(store.preparer.unpacking.kind === "driver");
    const forget = async (): Promise<void> => {
      throw new Error("the disk is gone");
    };
    context.mock.method(store.preparer.unpacking, "forget", forget);
    await store.images.removal.remove("loaded:1", true);
    assert.deepEqual(store.preparer.discarded, [id]);
  });

  it("is passed to the driver if a later image of the same load cannot be prepared", async (context) => {
    const store = await openImageStore(context);
    store.preparer.reference = "registry/repository@sha256:1";
    const layer = async (content: string): Promise<Buffer> => await tarOf([{ name: "file", content }]);
    const images = [await layer("one"), await layer("two")].map((each) => ({ layers: [each], config: {} }));
    const archive = streamOf(await dockerArchive(images.map((image) => ({ image, tags: [] }))));
    store.preparer.beforePrepare = async () => {
      if (store.preparer.prepared.length === 1) {
        throw new Error("the registry is full");
      }
    };
    const loading = store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    await assert.rejects(loading, /the registry is full/);
    assert.deepEqual(store.preparer.discarded, store.preparer.prepared);
    assert.equal(store.preparer.discarded.length, 1);
  });

  it("is passed to the driver if the image is removed while it is prepared, and again by the next one", async (context) => {
    const { store: first, id } = await imported(context);
    const store = await first.reopen();
    const { record } = await store.images.containers.resolve("loaded:1");
    store.preparer.beforePrepare = async () => {
      store.preparer.beforePrepare = undefined;
      await store.images.removal.remove("loaded:1", true);
    };
    store.preparer.reference = "registry/repository@sha256:2";
    await store.images.containers.makeRunnable(record, signal);
    assert.deepEqual(store.preparer.discarded, [id, id]);
    await store.images.containers.makeRunnable(record, signal);
    assert.deepEqual(store.preparer.prepared, [id, id]);
  });
});
