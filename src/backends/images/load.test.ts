import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { systemError } from "../../common/errors.ts";
import { ListImagesRequestSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import { openImageStore, streamOf, type TestImageStore } from "../../../test/support/image-store.ts";
import {
  blobOf,
  configBlob,
  dockerArchive,
  type FixtureImage,
  imageId,
  indexBlob,
  manifestBlob,
  ociLayout,
} from "../../../test/support/images.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { untilTrue } from "../../../test/support/until.ts";
import { HeldDocuments } from "./held-documents.ts";
import type { ProgressLine } from "./progress.ts";

const signal = new AbortController().signal;

/** A small image; a number makes it a different one. */
async function image(number = 0): Promise<FixtureImage> {
  return {
    layers: [
      await tarOf([{ name: "base", content: "b".repeat(200_000) }]),
      await tarOf([{ name: "top", content: `${number}` }]),
    ],
    config: { Cmd: ["/top"], Labels: { number: String(number) } },
  };
}

async function load(
  store: TestImageStore,
  archive: Uint8Array,
  progress: ProgressLine[] = [],
  ofBuild = false,
) {
  return await store.images.archives.load({
    archive: streamOf(archive),
    platform: undefined,
    ofBuild,
    report: (line) => progress.push(line),
    signal,
  });
}

/** Asserts that an archive is refused with that text and that nothing of it remains. */
async function assertRefused(context: TestContext, archive: Uint8Array, message: string | RegExp) {
  const store = await openImageStore(context);
  await assert.rejects(load(store, archive), { kind: "invalid", message });
  assert.deepEqual(await store.blobs(), []);
  assert.deepEqual(await store.ingests(), []);
  assert.deepEqual([...store.preparer.layers], []);
  assert.equal(store.state.images.size, 0);
  assert.deepEqual(store.events(), []);
}

function entryOf(archive: object[]): string {
  return JSON.stringify(archive);
}

describe("a docker archive", () => {
  it("is whole beside the removal of the same image, whose record takes long to be written", async (context) => {
    const store = await openImageStore(context);
    const archive = await dockerArchive([{ image: await image(), tags: ["again:1"] }]);
    await load(store, archive);
    const written = Promise.withResolvers<void>();
    const commit = store.state.commit.bind(store.state);
    context.mock.method(
      store.state,
      "commit",
      async (change: Parameters<typeof commit>[0]) => {
        await Promise.all([commit(change), written.promise]);
      },
      { times: 1 },
    );
    const removed = store.images.removal.remove("again:1", true);
    await untilTrue(() => store.state.images.size === 0);
    await load(store, archive);
    written.resolve();
    await removed;
    assert.equal(store.images.catalog.inspect("again:1").config?.labels["number"], "0");
    assert.deepEqual(store.preparer.discarded, []);
  });

  it("names a parent that it has, and that is one", async (context) => {
    const [one, other] = [await image(1), await image(2)];
    const parent = imageId(other);
    await assertRefused(
      context,
      await dockerArchive([
        { image: one, tags: [], parent },
        { image: other, tags: [] },
      ]),
      `ID ${parent} is not a valid parent for ${imageId(one)}`,
    );
    const store = await openImageStore(context);
    await load(store, await dockerArchive([{ image: one, tags: [], parent }]));
    assert.equal(store.images.catalog.inspect(imageId(one), undefined).parentId, "");
  });

  it("may leave out layers that an image here has, known by their diff IDs", async (context) => {
    const [first, second] = [await image(1), await image(2)];
    const [base, top] = second.layers.map(blobOf);
    const config = configBlob(second);
    const archive = await tarOf([
      { name: "config.json", content: config.bytes },
      { name: "top.tar", content: top?.bytes ?? "" },
      {
        name: "manifest.json",
        content: entryOf([{ Config: "config.json", RepoTags: ["b:1"], Layers: ["base.tar", "top.tar"] }]),
      },
    ]);
    await assertRefused(context, archive, "open base.tar: no such file or directory");
    const store = await openImageStore(context);
    await load(store, await dockerArchive([{ image: first, tags: [] }]));
    await load(store, archive);
    const { record } = await store.images.containers.resolve("b:1");
    assert.deepEqual(record.diffIds, [base?.digest, top?.digest]);
  });

  it("may leave out a layer any number of times, looked up once and without a look at all images", async (context) => {
    const store = await openImageStore(context);
    const here = await image();
    await load(store, await dockerArchive([{ image: here, tags: [] }]));
    const reads = context.mock.method(store.state.images, "values");
    const lookups = context.mock.method(store.state.images, "withLayer");
    const readsOf = async (count: number) => {
      const calls = () => reads.mock.callCount() + lookups.mock.callCount();
      const before = calls();
      const others = Array.from({ length: count }, (_, n) => ({
        ...here,
        config: { Cmd: [`${n} of ${count}`] },
      }));
      const configs = others.map((each, n) => ({ name: `${n}`, content: configBlob(each).bytes }));
      const items = others.map((_, n) => ({ Config: `${n}`, Layers: ["base.tar", "top.tar"] }));
      await load(store, await tarOf([...configs, { name: "manifest.json", content: entryOf(items) }]));
      return calls() - before;
    };
    const [few, many] = [await readsOf(1), await readsOf(30)];
    assert.equal(store.state.images.size, 32);
    assert.equal(many, few);
  });

  it("of a build is neither listed nor pruned nor reported, unless a filter includes it", async (context) => {
    const store = await openImageStore(context);
    const state = { ...(await image()), config: { Labels: { "sockerless.build": "state" } } };
    await load(store, await dockerArchive([{ image: state, tags: [] }]), [], true);
    const listed = async (filters: Record<string, { values: string[] }>) =>
      (await store.images.catalog.list(create(ListImagesRequestSchema, { all: true, filters }), signal)).map(
        ({ id }) => id,
      );
    assert.deepEqual(await listed({}), []);
    assert.deepEqual(await listed({ label: { values: ["sockerless.build=state"] } }), [imageId(state)]);
    await store.images.removal.prune({}, signal);
    assert.equal(store.state.images.size, 1);
    assert.deepEqual(store.events(), ["prune"]);
    assert.equal(blobOf(await store.images.archives.configOf(imageId(state))).digest, imageId(state));
  });

  it("is seen whatever its labels say, and however often a builder makes the same", async (context) => {
    const store = await openImageStore(context);
    const labelled = { ...(await image()), config: { Labels: { "sockerless.build": "state" } } };
    const archive = await dockerArchive([{ image: labelled, tags: [] }]);
    const listed = async () =>
      (await store.images.catalog.list(create(ListImagesRequestSchema, { all: true }), signal)).map(
        ({ id, ofBuild }) => ({ id, ofBuild }),
      );
    await load(store, archive, [], true);
    assert.deepEqual(await listed(), []);
    await load(store, archive);
    assert.deepEqual(await listed(), [{ id: imageId(labelled), ofBuild: false }]);
    await load(store, archive, [], true);
    assert.deepEqual(await listed(), [{ id: imageId(labelled), ofBuild: false }]);
  });

  it("of a build is seen once it has a name", async (context) => {
    const store = await openImageStore(context);
    const state = await image();
    await load(store, await dockerArchive([{ image: state, tags: [] }]), [], true);
    await store.images.catalog.tag(imageId(state), "named:1");
    const [listed] = await store.images.catalog.list(create(ListImagesRequestSchema, { all: true }), signal);
    assert.deepEqual(listed?.repoTags, ["named:1"]);
  });

  it("counts the values of its documents among the memory of all loads", async (context) => {
    const store = await openImageStore(context);
    const wanted = await image();
    const config = JSON.parse(configBlob(wanted).bytes.toString()) as object;
    const steps = Array.from({ length: 4_000 }, () => ({ empty_layer: true }));
    const configs = Array.from({ length: 10 }, (_, n) => ({
      name: `${n}`,
      content: JSON.stringify({ ...config, comment: `${n}`, history: steps }),
    }));
    const items = configs.map(({ name }) => ({ Config: name, Layers: ["base", "top"] }));
    const archive = await tarOf([
      ...configs,
      ...wanted.layers.map((content, at) => ({ name: ["base", "top"][at] ?? "", content })),
      { name: "manifest.json", content: entryOf(items) },
    ]);
    const take = context.mock.method(HeldDocuments.prototype, "take");
    await load(store, archive);
    const taken = take.mock.calls.reduce((sum, { arguments: [bytes] }) => sum + bytes, 0);
    assert.ok(taken > 5_000_000, `${taken} bytes`);
  });

  it("counts names with those of other archives before it has ended", async (context) => {
    const store = await openImageStore(context);
    const links = Array.from({ length: 70 }, (_, n) => ({
      name: `${n}`,
      type: "symlink" as const,
      linkname: `${n}`.repeat(2_000),
    }));
    const archive = await tarOf(links);
    const loaded = (): Promise<unknown> =>
      store.images.archives.load({
        archive: (async function* () {
          yield* streamOf(archive);
          throw systemError("it was not refused");
        })(),
        platform: undefined,
        ofBuild: false,
        report: () => {},
        signal,
      });
    await assert.rejects(loaded(), { message: "it was not refused" });
    {
      using held = new DisposableStack();
      for (let n = 0; n < 10; n++) {
        try {
          held.use(new HeldDocuments()).take(80 * 1024 ** 2);
        } catch {}
      }
      await assert.rejects(loaded(), { kind: "unavailable" });
    }
    await assert.rejects(loaded(), { message: "it was not refused" });
  });

  it("becomes an image under each of its names", async (context) => {
    const store = await openImageStore(context);
    const wanted = await image();
    const archive = await dockerArchive([{ image: wanted, tags: ["a:1", "ghcr.io/b/c:2"] }]);
    assert.deepEqual(await load(store, archive), [
      { reference: "a:1", imageId: imageId(wanted) },
      { reference: "ghcr.io/b/c:2", imageId: imageId(wanted) },
    ]);
    const { record, config } = await store.images.containers.resolve("a:1");
    assert.equal(record.id, imageId(wanted));
    assert.deepEqual(
      record.diffIds,
      wanted.layers.map((layer) => blobOf(layer).digest),
    );
    assert.equal(record.size, BigInt(wanted.layers.reduce((sum, layer) => sum + layer.length, 0)));
    assert.deepEqual(config.cmd?.values, ["/top"]);
    assert.deepEqual([...store.preparer.layers], record.diffIds);
    assert.deepEqual(store.events(), ["load"]);
  });

  it("reports an image that loses its name", async (context) => {
    const store = await openImageStore(context);
    const named = async (cmd: string, progress: ProgressLine[]) => {
      const wanted = { ...(await image()), config: { Cmd: [cmd] } };
      await load(store, await dockerArchive([{ image: wanted, tags: ["a:1"] }]), progress);
      return imageId(wanted);
    };
    const progress: ProgressLine[] = [];
    const first = await named("one", progress);
    await named("one", progress);
    const isOfWhole = ({ id }: ProgressLine) => id === "";
    assert.deepEqual(progress.filter(isOfWhole), []);
    await named("two", progress);
    assert.deepEqual(progress.filter(isOfWhole), [
      {
        id: "",
        status: `The image a:1 already exists, renaming the old one with ID ${first} to empty string`,
      },
    ]);
  });

  it("survives a restart", async (context) => {
    const store = await openImageStore(context);
    await load(store, await dockerArchive([{ image: await image(), tags: ["a:1"] }]));
    const blobs = await store.blobs();
    const again = await store.reopen();
    assert.equal((await again.images.containers.resolve("a:1")).record.id, imageId(await image()));
    assert.deepEqual(await again.blobs(), blobs);
  });

  it("is reported by its ID if it has no name", async (context) => {
    const store = await openImageStore(context);
    const loaded = await load(store, await dockerArchive([{ image: await image(), tags: [] }]));
    assert.deepEqual(loaded, [{ reference: "", imageId: imageId(await image()) }]);
  });

  it("may hold several images that share layers", async (context) => {
    const store = await openImageStore(context);
    const archive = await dockerArchive([
      { image: await image(1), tags: ["one:latest"] },
      { image: await image(2), tags: ["two:latest"] },
    ]);
    assert.equal((await load(store, archive)).length, 2);
    assert.equal(store.state.images.size, 2);
  });

  it("moves a name from its previous image", async (context) => {
    const store = await openImageStore(context);
    await load(store, await dockerArchive([{ image: await image(1), tags: ["a:latest"] }]));
    await load(store, await dockerArchive([{ image: await image(2), tags: ["a:latest"] }]));
    assert.equal((await store.images.containers.resolve("a")).record.id, imageId(await image(2)));
    assert.deepEqual((await store.images.containers.resolve(imageId(await image(1)))).record.names, []);
  });

  it("reports each layer", async (context) => {
    const store = await openImageStore(context);
    const progress: ProgressLine[] = [];
    const wanted = await image();
    await load(store, await dockerArchive([{ image: wanted, tags: [] }]), progress);
    assert.deepEqual(
      progress.map(({ id, status }) => ({ id, status })),
      wanted.layers.map((layer) => ({ id: blobOf(layer).digest.slice(7, 19), status: "Loading layer" })),
    );
  });

  for (const [compression, compress] of [
    ["gzip", gzipSync],
    ["zstd", zstdCompressSync],
  ] as const) {
    it(`may be compressed with ${compression}`, async (context) => {
      const store = await openImageStore(context);
      const archive = compress(await dockerArchive([{ image: await image(), tags: ["a:1"] }]));
      assert.equal((await load(store, archive)).length, 1);
    });

    it(`may have layers compressed with ${compression}`, async (context) => {
      const store = await openImageStore(context);
      const wanted = await image();
      const archive = await tarOf([
        { name: "0", content: compress(wanted.layers[0] as Buffer) },
        { name: "1", content: compress(wanted.layers[1] as Buffer) },
        { name: "config", content: configBlob(wanted).bytes },
        { name: "manifest.json", content: entryOf([{ Config: "config", Layers: ["0", "1"] }]) },
      ]);
      await load(store, archive);
      const { record } = await store.images.containers.resolve(imageId(wanted));
      assert.equal(record.size, BigInt(wanted.layers.reduce((sum, layer) => sum + layer.length, 0)));
      assert.notDeepEqual(record.layerDigests, record.diffIds);
    });
  }

  it("may have its parts in any order, and layers that are links to others", async (context) => {
    const store = await openImageStore(context);
    const wanted = await image();
    const archive = await tarOf([
      { name: "manifest.json", content: entryOf([{ Config: "c", Layers: ["x/layer.tar", "y/layer.tar"] }]) },
      { name: "x/layer.tar", type: "symlink", linkname: "../z/layer.tar" },
      { name: "y/layer.tar", type: "link", linkname: "w/layer.tar" },
      { name: "c", content: configBlob(wanted).bytes },
      { name: "w/layer.tar", content: wanted.layers[1] as Buffer },
      { name: "./z/layer.tar", content: wanted.layers[0] as Buffer },
    ]);
    await load(store, archive);
    assert.equal(store.images.containers.idOf(imageId(wanted)), imageId(wanted));
  });

  it("keeps only what its images need", async (context) => {
    const store = await openImageStore(context);
    const wanted = await image();
    const plain = await openImageStore(context);
    const parts = [
      { name: "0", content: wanted.layers[0] as Buffer },
      { name: "1", content: wanted.layers[1] as Buffer },
      { name: "config", content: configBlob(wanted).bytes },
      { name: "manifest.json", content: entryOf([{ Config: "config", Layers: ["0", "1"] }]) },
    ];
    await load(store, await tarOf([{ name: "junk", content: "j".repeat(1000) }, ...parts]));
    await load(plain, await tarOf(parts));
    assert.deepEqual(await store.blobs(), await plain.blobs());
    assert.equal((await store.blobs()).length, 4);
  });

  it("leaves nothing of a stream that was cut, wherever that happens", async (context) => {
    const archive = await dockerArchive([{ image: await image(), tags: ["a:1"] }]);
    for (const length of [100, 512, 700, 100_000, archive.length - 2000]) {
      await assertRefused(context, archive.subarray(0, length), /unexpected EOF|no such file or directory/);
    }
  });

  it("leaves nothing of a compressed stream that was cut", async (context) => {
    const archive = gzipSync(await dockerArchive([{ image: await image(), tags: ["a:1"] }]));
    await assertRefused(context, archive.subarray(0, archive.length - 40), "unexpected EOF");
  });

  it("fails with the stream's own error, and leaves nothing", async (context) => {
    const store = await openImageStore(context);
    const archive = await dockerArchive([{ image: await image(), tags: ["a:1"] }]);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield archive.subarray(0, 150_000);
      throw systemError("the client left");
    }
    const loading = store.images.archives.load({
      archive: broken(),
      platform: undefined,
      report: () => {},
      signal,
    });
    await assert.rejects(loading, { kind: "system", message: "the client left" });
    assert.deepEqual(await store.blobs(), []);
    assert.deepEqual(await store.ingests(), []);
  });

  it("leaves nothing if the driver cannot unpack it", async (context) => {
    const store = await openImageStore(context);
    store.preparer.failure = systemError("no space left on device");
    const loading = load(store, await dockerArchive([{ image: await image(), tags: ["a:1"] }]));
    await assert.rejects(loading, { message: "no space left on device" });
    assert.deepEqual(await store.blobs(), []);
    assert.equal(store.state.images.size, 0);
  });

  it("ends when it is aborted, and leaves nothing", async (context) => {
    const store = await openImageStore(context);
    const abort = new AbortController();
    const archive = await dockerArchive([{ image: await image(), tags: ["a:1"] }]);
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield archive.subarray(0, 150_000);
      abort.abort(systemError("gone"));
      await new Promise(() => {});
    }
    const loading = store.images.archives.load({
      archive: endless(),
      platform: undefined,
      report: () => {},
      signal: abort.signal,
    });
    await assert.rejects(loading, { message: "gone" });
    assert.deepEqual(await store.blobs(), []);
  });
});

describe("an archive that is broken", () => {
  const config = JSON.stringify({ os: "linux", rootfs: { diff_ids: [] } });
  const manifestOf = (content: string) => tarOf([{ name: "manifest.json", content }]);

  it("is refused if it is not a tar", async (context) => {
    await assertRefused(context, Buffer.alloc(2048, "x"), "archive/tar: invalid tar header");
  });
  it("is refused if it is empty", async (context) => {
    await assertRefused(context, Buffer.alloc(0), /repositories: no such file/);
  });
  it("is refused without a manifest", async (context) => {
    await assertRefused(
      context,
      await tarOf([{ name: "passwd", content: "x" }]),
      /repositories: no such file/,
    );
  });
  it("is refused if the manifest is not JSON", async (context) => {
    await assertRefused(context, await manifestOf("{"), /^invalid manifest: /);
  });
  it("is refused if the manifest is null", async (context) => {
    await assertRefused(
      context,
      await manifestOf("null"),
      "invalid manifest, manifest cannot be null (but can be [])",
    );
  });
  it("is refused if the manifest does not match the schema", async (context) => {
    await assertRefused(context, await manifestOf('[{"Config":1}]'), /^invalid manifest at 0\.Config: /);
  });
  it("is refused if the configuration is missing", async (context) => {
    await assertRefused(
      context,
      await manifestOf(entryOf([{ Config: "../../etc/passwd" }])),
      "open ../../etc/passwd: no such file or directory",
    );
  });
  it("is refused if a layer is missing", async (context) => {
    const wanted = await image();
    const archive = await tarOf([
      { name: "c", content: configBlob(wanted).bytes },
      { name: "manifest.json", content: entryOf([{ Config: "c", Layers: ["a", "b"] }]) },
    ]);
    await assertRefused(context, archive, "open a: no such file or directory");
  });
  it("is refused if links form a cycle", async (context) => {
    const archive = await tarOf([
      { name: "a", type: "symlink", linkname: "b" },
      { name: "b", type: "symlink", linkname: "a" },
      { name: "manifest.json", content: entryOf([{ Config: "a" }]) },
    ]);
    await assertRefused(context, archive, "open a: no such file or directory");
  });
  it("is refused if its names are longer than memory is for", async (context) => {
    const long = "n".repeat(4_096);
    await assertRefused(
      context,
      await tarOf([{ name: `${long}n`, content: "" }]),
      /a name of more than 4096/,
    );
    const target = await tarOf([{ name: "n", type: "symlink", linkname: `${long}n` }]);
    await assertRefused(context, target, /a name of more than 4096/);
    const many = Array.from({ length: 4_100 }, (_, i) => `${i}/${long}`.slice(0, 4_096));
    const links = await tarOf(many.map((name) => ({ name, type: "symlink" as const, linkname: "n" })));
    await assertRefused(context, links, /names of more than 16777216 characters together/);
  });
  it("is refused if layers and configuration do not match", async (context) => {
    const archive = await tarOf([
      { name: "c", content: config },
      { name: "l", content: "x" },
      { name: "manifest.json", content: entryOf([{ Config: "c", Layers: ["l"] }]) },
    ]);
    await assertRefused(context, archive, "invalid manifest, layers length mismatch: expected 1, got 0");
  });
  it("is refused if a layer does not match the configuration", async (context) => {
    const wanted = await image();
    const archive = await tarOf([
      { name: "c", content: configBlob(wanted).bytes },
      { name: "0", content: wanted.layers[1] as Buffer },
      { name: "1", content: wanted.layers[0] as Buffer },
      { name: "manifest.json", content: entryOf([{ Config: "c", Layers: ["0", "1"] }]) },
    ]);
    await assertRefused(context, archive, /^invalid diffID for layer 0: expected "sha256:.*", got "sha256:/);
  });
  it("is refused if a layer's compression is damaged", async (context) => {
    const wanted = await image();
    const archive = await tarOf([
      { name: "c", content: configBlob(wanted).bytes },
      { name: "0", content: gzipSync(wanted.layers[0] as Buffer).subarray(0, 50) },
      { name: "1", content: wanted.layers[1] as Buffer },
      { name: "manifest.json", content: entryOf([{ Config: "c", Layers: ["0", "1"] }]) },
    ]);
    await assertRefused(context, archive, "unexpected EOF");
  });
  it("is refused if an image is for Windows", async (context) => {
    const archive = await tarOf([
      { name: "c", content: JSON.stringify({ os: "windows", rootfs: { diff_ids: [] } }) },
      { name: "manifest.json", content: entryOf([{ Config: "c" }]) },
    ]);
    await assertRefused(context, archive, "cannot load windows image on linux");
  });
  it("is refused if the configuration has no layers", async (context) => {
    const archive = await tarOf([
      { name: "c", content: "{}" },
      { name: "manifest.json", content: entryOf([{ Config: "c" }]) },
    ]);
    await assertRefused(context, archive, "invalid image JSON, no RootFS key");
  });
  it("is refused if a name is invalid", async (context) => {
    for (const [tag, message] of [
      ["UPPER:1", "invalid reference format: repository name (library/UPPER) must be lowercase"],
      ["untagged", 'invalid tag "untagged"'],
    ] as const) {
      const archive = await tarOf([
        { name: "c", content: config },
        { name: "manifest.json", content: entryOf([{ Config: "c", RepoTags: [tag] }]) },
      ]);
      await assertRefused(context, archive, message);
    }
  });
  it("is refused as a whole if only its second image is damaged", async (context) => {
    const wanted = await image();
    const good = { Config: "c", Layers: ["0", "1"], RepoTags: ["good:1"] };
    const archive = await tarOf([
      { name: "c", content: configBlob(wanted).bytes },
      { name: "0", content: wanted.layers[0] as Buffer },
      { name: "1", content: wanted.layers[1] as Buffer },
      { name: "manifest.json", content: entryOf([good, { ...good, Layers: ["1", "1"] }]) },
    ]);
    await assertRefused(context, archive, /^invalid diffID for layer 0/);
  });
  it("is refused if it lists many images, or reads large configurations over and over", async (context) => {
    const config = JSON.stringify({
      config: { Labels: { a: "a".repeat(500_000) } },
      rootfs: { type: "layers" },
    });
    const listing = (count: number, content: string) =>
      tarOf([
        { name: "c", content },
        { name: "manifest.json", content: entryOf(Array(count).fill({ Config: "c", Parent: "x" })) },
      ]);
    const small = JSON.stringify({ rootfs: { type: "layers" } });
    await assertRefused(context, await listing(4_097, small), "archive has more than 4096 images");
    await assertRefused(
      context,
      await listing(150, config),
      "the archive's manifests and configurations are too large together",
    );
    const labels = Object.fromEntries(Array.from({ length: 15_000 }, (_, label) => [label, ""]));
    const many = JSON.stringify({ config: { Labels: labels }, rootfs: { type: "layers" } });
    await assertRefused(
      context,
      await listing(15, many),
      "the archive's manifests and configurations are too large together",
    );
    const store = await openImageStore(context);
    await load(store, await listing(10, config));
    assert.equal(store.state.images.size, 1);
    const long = JSON.stringify({ comment: "c".repeat(524_288), rootfs: { type: "layers" } });
    await assertRefused(
      context,
      await listing(1, long),
      "invalid image configuration: more than 524288 bytes",
    );
  });

  it("is refused if it is compressed with xz", async (context) => {
    await assertRefused(
      context,
      Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0]),
      /compressed with xz are not supported/,
    );
  });
});

describe("an OCI layout", () => {
  it("becomes an image with the layout's own manifest", async (context) => {
    const store = await openImageStore(context);
    const wanted = await image();
    assert.deepEqual(await load(store, await ociLayout(wanted, "docker.io/library/a:1")), [
      { reference: "a:1", imageId: imageId(wanted) },
    ]);
    assert.equal(
      (await store.images.containers.resolve("a:1")).record.manifestDigest,
      manifestBlob(wanted).digest,
    );
  });

  it("may have no name", async (context) => {
    const store = await openImageStore(context);
    assert.deepEqual(await load(store, await ociLayout(await image())), [
      { reference: "", imageId: imageId(await image()) },
    ]);
  });

  it("of several platforms yields the machine's image", async (context) => {
    const store = await openImageStore(context);
    const ours = await image(1);
    const theirs = { ...(await image(2)), architecture: "s390x" };
    const inner = indexBlob([theirs, ours]);
    const blobs = [
      inner,
      ...[ours, theirs].flatMap((each) => [
        manifestBlob(each),
        configBlob(each),
        ...each.layers.map((layer) => blobOf(layer)),
      ]),
    ];
    const archive = await tarOf([
      {
        name: "index.json",
        content: JSON.stringify({
          schemaVersion: 2,
          manifests: [
            {
              mediaType: "application/vnd.oci.image.index.v1+json",
              digest: inner.digest,
              size: inner.bytes.length,
              annotations: { "org.opencontainers.image.ref.name": "a:1" },
            },
          ],
        }),
      },
      ...blobs.map(({ digest, bytes }) => ({ name: `blobs/sha256/${digest.slice(7)}`, content: bytes })),
    ]);
    assert.deepEqual(await load(store, archive), [{ reference: "a:1", imageId: imageId(ours) }]);
    assert.equal(store.state.images.size, 1);
  });

  it("is refused if a blob does not match its name", async (context) => {
    const wanted = await image();
    const archive = await tarOf([
      { name: "index.json", content: indexBlob([wanted]).bytes },
      { name: `blobs/sha256/${manifestBlob(wanted).digest.slice(7)}`, content: "forged" },
    ]);
    await assertRefused(context, archive, /^invalid archive: content of blob sha256:/);
  });

  it("is refused if a manifest is missing", async (context) => {
    const wanted = await image();
    const archive = await tarOf([{ name: "index.json", content: indexBlob([wanted]).bytes }]);
    await assertRefused(context, archive, /^open blobs\/sha256\/.*: no such file or directory$/);
  });
});
