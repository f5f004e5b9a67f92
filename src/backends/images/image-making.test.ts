import assert from "node:assert/strict";
import { truncate } from "node:fs/promises";
import path from "node:path";
import { describe, it, type TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import {
  openImageStore,
  RecordingPreparer,
  streamOf,
  type TestImageStore,
} from "../../../test/support/image-store.ts";
import { blobOf, dockerArchive, type FixtureImage, imageId } from "../../../test/support/images.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { ContainerConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImageCommit } from "../driver/image-source.ts";
import { fileHeader } from "./tar-entries.ts";

const signal = new AbortController().signal;

async function storeOf(
  context: TestContext,
  config: Record<string, unknown> = {},
  options: Parameters<typeof openImageStore>[1] = {},
) {
  const image: FixtureImage = {
    layers: [await tarOf([{ name: "base" }]), await tarOf([{ name: "top", content: "top" }])],
    config,
  };
  const store = await openImageStore(context, options);
  const archive = streamOf(await dockerArchive([{ image, tags: ["base:1"] }]));
  await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
  return { store, id: imageId(image), image };
}

async function commit(
  store: TestImageStore,
  parentId: string,
  options: Partial<ImageCommit> = {},
): Promise<string> {
  const { id } = await store.images.containers.commit({
    parentId,
    layer: streamOf(await tarOf([{ name: "mine", content: "mine" }])),
    config: create(ContainerConfigSchema, { env: ["A=1"], labels: { made: "here" } }),
    createdBy: "sh -c make",
    author: "me",
    comment: "why",
    reference: "made:1",
    signal,
    ...options,
  });
  return id;
}

/** Makes images whose configurations have half a megabyte each. */
async function largeCommits(store: TestImageStore, id: string): Promise<(label: string) => Promise<string>> {
  const layer = await tarOf([]);
  return (label) =>
    commit(store, id, {
      config: create(ContainerConfigSchema, { labels: { label, large: "x".repeat(500_000) } }),
      layer: streamOf(layer),
      reference: "",
    });
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

describe("a commit", () => {
  it("puts a layer on the image's own, and a step on its history", async (context) => {
    const { store, id, image } = await storeOf(context);
    const made = await commit(store, id);
    const detail = store.images.catalog.inspect("made:1");
    assert.equal(detail.id, made);
    assert.deepEqual(
      detail.diffIds.slice(0, 2),
      image.layers.map((layer) => blobOf(layer).digest),
    );
    assert.equal(detail.diffIds.length, 3);
    assert.deepEqual([detail.author, detail.comment, detail.config?.env], ["me", "why", ["A=1"]]);
    const [newest] = store.images.catalog.history("made:1");
    assert.deepEqual(
      [newest?.id, newest?.createdBy, newest?.comment, newest?.tags, newest?.size],
      [made, "sh -c make", "why", ["made:1"], 2048n],
    );
    assert.deepEqual(store.events(), ["load", "create", "tag"]);
  });

  it("keeps the layers that it shares when the image beneath is removed", async (context) => {
    const { store, id } = await storeOf(context);
    await commit(store, id);
    await store.images.removal.remove("base:1", false);
    assert.equal(store.preparer.layers.size, 3);
    const saved = await collect(store.images.archives.save(["made:1"], undefined, signal));
    await store.images.removal.remove("made:1", false);
    assert.deepEqual(await store.blobs(), []);
    await store.images.archives.load({
      archive: streamOf(saved),
      platform: undefined,
      report: () => {},
      signal,
    });
    assert.equal(store.images.catalog.inspect("made:1").diffIds.length, 3);
  });

  it("leaves out a layer without entries", async (context) => {
    const { store, id } = await storeOf(context);
    await commit(store, id, { layer: streamOf(await tarOf([])) });
    assert.equal(store.images.catalog.inspect("made:1").diffIds.length, 2);
    assert.equal(store.images.catalog.history("made:1")[0]?.size, 0n);
  });

  it("takes a configuration as it is written, with the layers that the image gets", async (context) => {
    const { store, id } = await storeOf(context);
    const written = (diffIds: string): string =>
      `{"os":"linux","config":{"Labels":{"a":"b"}},"rootfs":{"diff_ids":${diffIds},"type":"layers"},"architecture":"amd64"}`;
    const imageConfig = new TextEncoder().encode(written("null"));
    const options = { imageConfig, reference: "", ofBuild: true };
    const { diffIds: inherited } = store.images.catalog.inspect(id);
    const layer = await tarOf([{ name: "mine", content: "mine" }]);
    for (const tar of [layer, await tarOf([])]) {
      const made = await commit(store, id, { ...options, layer: streamOf(tar) });
      const diffIds = [...inherited, blobOf(tar).digest];
      assert.deepEqual(store.images.catalog.inspect(made).diffIds, diffIds);
      const configBytes = await store.images.archives.configOf(made);
      assert.equal(configBytes.toString(), written(JSON.stringify(diffIds)));
      assert.equal(await commit(store, id, { ...options, layer: streamOf(tar) }), made);
    }
    assert.deepEqual(store.events(), ["load"]);
    assert.deepEqual(
      store.images.catalog.visible().map(({ record }) => record.id),
      [id],
    );
  });

  it("refuses a configuration that is invalid or has no layers", async (context) => {
    const { store, id } = await storeOf(context);
    const before = await store.blobs();
    for (const text of ["", "{", "null", "[]", "{}", '{"rootfs":null}', '{"rootfs":{},"os":"plan9"}']) {
      const imageConfig = new TextEncoder().encode(text);
      await assert.rejects(commit(store, id, { imageConfig, reference: "" }), { kind: "invalid" }, text);
    }
    assert.deepEqual(await store.blobs(), before);
  });

  it("leaves nothing of a layer that was cut, or that the driver does not take", async (context) => {
    const { store, id } = await storeOf(context);
    const before = await store.blobs();
    async function* cut(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(100_000);
      throw new Error("cut");
    }
    await assert.rejects(commit(store, id, { layer: cut() }), /cut/);
    store.preparer.failure = new Error("no space");
    await assert.rejects(commit(store, id), /no space/);
    await assert.rejects(commit(store, id, { reference: "UPPER" }), { kind: "invalid" });
    assert.deepEqual(await store.blobs(), before);
    assert.deepEqual(await store.ingests(), []);
    assert.equal(store.state.images.size, 1);
  });

  it("leaves nothing of an invalid layer, if the platform unpacks layers", async (context) => {
    const preparer = new RecordingPreparer();
    preparer.unpacking = { kind: "platform" };
    const { store, id } = await storeOf(context, {}, { preparer });
    const before = await store.blobs();
    const whole = await tarOf([{ name: "file", content: "x".repeat(600) }]);
    for (const layer of [Buffer.alloc(4096, "x"), whole.subarray(0, 1_000)]) {
      await assert.rejects(commit(store, id, { layer: streamOf(layer) }), { kind: "invalid" });
    }
    assert.deepEqual([await store.blobs(), await store.ingests()], [before, []]);
  });

  it("is refused while images' configurations hold 64 MiB together", async (context) => {
    const { store, id } = await storeOf(context);
    const large = await largeCommits(store, id);
    const first = await large("0");
    let made = 1;
    await assert.rejects(async () => {
      for (; ; made += 1) {
        await large(`${made}`);
      }
    }, /images' configurations may hold at most 64 MiB together/);
    assert.ok(made > 130, `${made} images`);
    assert.equal(store.state.images.size, 1 + made);
    await store.images.removal.remove(first, false);
    await large("more");
  });

  it("is refused while the configurations of images being made hold them, which failures free", async (context) => {
    const { store, id } = await storeOf(context);
    const large = await largeCommits(store, id);
    const { promise: failed, reject: fail } = Promise.withResolvers<void>();
    let [waiting, refused] = [0, 0];
    store.preparer.beforePrepare = () => {
      waiting += 1;
      return failed;
    };
    const all = Array.from({ length: 140 }, (_, label) =>
      large(`${label}`).catch((error: unknown) => {
        refused += /at most 64 MiB together/.test(String(error)) ? 1 : 0;
      }),
    );
    while (waiting + refused < all.length) {
      await setImmediate();
    }
    fail(new Error("no space"));
    await Promise.all(all);
    assert.ok(refused > 0 && waiting > 130, `${refused} are refused, ${waiting} were being made`);
    store.preparer.beforePrepare = undefined;
    await large("more");
  });

  it("is refused if the container's image is gone", async (context) => {
    const { store } = await storeOf(context);
    await assert.rejects(commit(store, `sha256:${"0".repeat(64)}`), { kind: "not-found" });
  });
});

describe("a save", () => {
  it("fails if a layer is damaged, before the archive is complete", async (context) => {
    const { store, image } = await storeOf(context);
    const digest = blobOf(image.layers[1] ?? Buffer.alloc(0)).digest.slice("sha256:".length);
    await truncate(path.join(store.directory, "blobs/sha256", digest), 512);
    await assert.rejects(collect(store.images.archives.save(["base:1"], undefined, signal)), {
      kind: "system",
      message: /is damaged in the content store$/,
    });
  });

  it("is the same bytes each time", async (context) => {
    const { store } = await storeOf(context);
    const save = () => collect(store.images.archives.save(["base:1"], undefined, signal));
    assert.ok((await save()).equals(await save()));
    assert.equal(store.events().at(-1), "save");
  });

  it("writes sizes that octal digits cannot hold", () => {
    const header = fileHeader("large", 9 * 1024 ** 3);
    assert.equal(header[124], 0x80);
    assert.equal(header.readBigUInt64BE(128), BigInt(9 * 1024 ** 3));
    assert.equal(fileHeader("small", 8).toString("latin1", 124, 135), "00000000010");
  });
});

describe("layers that nothing names", () => {
  it("go when a backend starts", async (context) => {
    const preparer = new RecordingPreparer();
    preparer.layers.add(`sha256:${"a".repeat(64)}`);
    await openImageStore(context, { preparer });
    assert.deepEqual([...preparer.layers], []);
  });

  it("go with the last container that stood on them", async (context) => {
    const { store, id, image } = await storeOf(context);
    const diffIds = image.layers.map((layer) => blobOf(layer).digest);
    const container = create(ContainerRecordSchema, {
      id: "c".repeat(64),
      imageId: id,
      layerDiffIds: diffIds,
    });
    await store.state.commit((change) => change.containers.put(container));
    await store.images.removal.remove("base:1", true);
    await store.images.containers.forgetUnusedLayers(diffIds);
    assert.equal(store.preparer.layers.size, 2);
    await store.state.commit((change) => change.containers.delete(container.id));
    await store.images.containers.forgetUnusedLayers(diffIds);
    assert.equal(store.preparer.layers.size, 0);
  });
});

describe("a prune", () => {
  const filters = (values: Record<string, string[]>) =>
    Object.fromEntries(
      Object.entries(values).map(([key, each]) => [
        key,
        { $typeName: "sockerless.backend.v1.StringList" as const, values: each },
      ]),
    );

  it("takes nameless images, and with dangling=false all that no container uses", async (context) => {
    const { store, id } = await storeOf(context);
    const made = await commit(store, id, { reference: "" });
    const first = await store.images.removal.prune({}, signal);
    assert.ok(first.removed.some((entry) => "deleted" in entry && entry.deleted === made));
    assert.equal(first.spaceReclaimed, 2048n);
    const second = await store.images.removal.prune(filters({ dangling: ["false"] }), signal);
    assert.ok(second.removed.some((entry) => "untagged" in entry && entry.untagged === "base:1"));
    assert.equal(store.state.images.size, 0);
    assert.equal(store.events().at(-1), "prune");
  });

  it("spares images according to its filters", async (context) => {
    const { store, id } = await storeOf(context);
    await commit(store, id, { reference: "" });
    for (const spared of [
      { label: ["made=there"] },
      { "label!": ["made=here"] },
      { until: ["2001-01-01"] },
    ]) {
      assert.deepEqual(
        (await store.images.removal.prune(filters(spared), signal)).removed,
        [],
        JSON.stringify(spared),
      );
    }
    await assert.rejects(store.images.removal.prune(filters({ colour: ["red"] }), signal), {
      kind: "invalid",
    });
    assert.equal(
      (await store.images.removal.prune(filters({ label: ["made=here"] }), signal)).removed.length > 0,
      true,
    );
  });
});
