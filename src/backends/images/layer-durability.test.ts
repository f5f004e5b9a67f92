import assert from "node:assert/strict";
import { truncate } from "node:fs/promises";
import path from "node:path";
import { describe, it, type TestContext } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { openImageStore, streamOf, type TestImageStore } from "../../../test/support/image-store.ts";
import { dockerArchive, imageId } from "../../../test/support/images.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { until } from "../../../test/support/until.ts";

const signal = new AbortController().signal;

/** A store with one image, or one state of a build, on a machine whose boot can change. */
async function storeOf(context: TestContext, ofBuild = false) {
  const machine = { boot: "first" };
  const store = await openImageStore(context, {
    get boot() {
      return machine.boot;
    },
  });
  const image = { layers: [await tarOf([{ name: "file", content: "x".repeat(1000) }])], config: {} };
  const archive = streamOf(await dockerArchive([{ image, tags: ofBuild ? [] : ["one:1"] }]));
  await store.images.archives.load({ archive, platform: undefined, ofBuild, report: () => {}, signal });
  return { store, machine, id: imageId(image) };
}

/** Makes the record say what it says when the machine stops before the layers are synced. */
async function unsync(store: TestImageStore, id: string, boot: string): Promise<void> {
  await synced(store, id);
  const record = store.state.images.get(id);
  assert.ok(record !== undefined);
  await store.state.commit((change) => change.images.put({ ...record, unsyncedBoot: boot }));
}

async function synced(store: TestImageStore, id: string): Promise<void> {
  await until(() => (store.state.images.get(id)?.unsyncedBoot === "" ? true : undefined));
}

async function damageLayer(store: TestImageStore, id: string): Promise<void> {
  await damage(store, store.state.images.get(id)?.layerDigests[0] ?? "");
}

async function damage(store: TestImageStore, digest: string): Promise<void> {
  await truncate(path.join(store.directory, "blobs", "sha256", digest.slice("sha256:".length)), 0);
}

describe("layers of a new image", () => {
  it("are synced behind the answer", async (context) => {
    const { store, id } = await storeOf(context);
    await synced(store, id);
  });

  it("are synced also if an image beside it finds no room for its name", async (context) => {
    const store = await openImageStore(context, { boot: "first" });
    const names = ["x".repeat(64 * 2 ** 20 - 2_000)];
    const holder = create(ImageRecordSchema, { id: "sha256:1", names });
    await store.state.commit((change) => change.images.put(holder), "happened");
    const [kept, refused] = await Promise.all(
      ["kept", "refused"].map(async (name) => ({ layers: [await tarOf([{ name }])], config: {} })),
    );
    assert.ok(kept !== undefined && refused !== undefined);
    const archive = streamOf(
      await dockerArchive([
        { image: kept, tags: ["one:1"] },
        { image: refused, tags: ["two:1", "two:2", "two:3", "two:4"] },
      ]),
    );
    const loaded = store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    await assert.rejects(loaded, /may hold at most 64 MiB/);
    assert.equal(store.state.images.get(imageId(refused)), undefined);
    assert.equal(store.state.images.get(imageId(kept))?.names.length, 1);
    await synced(store, imageId(kept));
  });

  it("are read after a crash of the machine, and kept if intact", async (context) => {
    const { store, machine, id } = await storeOf(context);
    await unsync(store, id, "first");
    machine.boot = "second";
    const again = await store.reopen();
    assert.equal((await again.images.containers.resolve("one:1")).record.id, id);
    await synced(again, id);
  });

  it("cause the removal of their image if a crash of the machine has damaged them", async (context) => {
    const { store, machine, id } = await storeOf(context);
    await unsync(store, id, "first");
    await damageLayer(store, id);
    machine.boot = "second";
    const again = await store.reopen();
    await assert.rejects(again.images.containers.resolve("one:1"), { kind: "not-found" });
    assert.deepEqual(await again.blobs(), []);
  });

  it("of a build's state count as its configuration and its manifest do", async (context) => {
    const { store, machine, id } = await storeOf(context, true);
    await unsync(store, id, "first");
    machine.boot = "second";
    const whole = await store.reopen();
    await synced(whole, id);
    for (const part of ["id", "manifestDigest"] as const) {
      const { store: other, machine: broken } = await storeOf(context, true);
      await unsync(other, id, "first");
      await damage(other, other.state.images.get(id)?.[part] ?? "");
      broken.boot = "second";
      const again = await other.reopen();
      assert.equal(again.state.images.size, 0, part);
      assert.deepEqual(await again.blobs(), [], part);
    }
  });

  it("are synced by the next process if the machine did not restart", async (context) => {
    const { store, id } = await storeOf(context);
    await unsync(store, id, "first");
    const again = await store.reopen();
    await synced(again, id);
  });
});
