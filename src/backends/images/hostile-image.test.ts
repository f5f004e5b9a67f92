import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { openImageStore, streamOf } from "../../../test/support/image-store.ts";
import {
  configBlob,
  dockerArchive,
  type FixtureImage,
  indexBlob,
  legacyArchive,
  manifestBlob,
  ociLayout,
} from "../../../test/support/images.ts";
import { replacedAt, strangeValue } from "../../../test/support/strange-json.ts";
import { entriesOf, tarOf } from "../../../test/support/tar.ts";
import { SockerlessError } from "../../common/errors.ts";
import { parseImageConfig, parseNewImageConfig } from "./image-config.ts";
import { parseManifest } from "./manifest.ts";

const layer = await tarOf([{ name: "file", content: "content" }]);
const image: FixtureImage = {
  layers: [layer],
  config: {
    Cmd: ["/file"],
    Env: ["A=b"],
    ExposedPorts: { "80/tcp": {} },
    Healthcheck: { Test: ["CMD", "/file"], Interval: 1_000_000_000 },
    Labels: { a: "b" },
    User: "1:2",
    Volumes: { "/data": {} },
    WorkingDir: "/",
  },
};
const signal = new AbortController().signal;

/** As JSON, in which a `bigint` is a number. */
const written = (value: unknown): string =>
  JSON.stringify(value, (_key, each: unknown) =>
    typeof each === "bigint" ? `bigint:${each}` : each,
  ).replaceAll(/"bigint:(-?\d+)"/g, "$1");

function assertRefused(error: unknown): void {
  assert.ok(error instanceof SockerlessError, error as Error);
  assert.equal(error.kind, "invalid", error.message);
}

/** Fails unless this works, or is refused as the image's fault. */
function understandsOrRefuses(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    assertRefused(error);
  }
}

/** As {@link understandsOrRefuses}, of an archive. */
async function isLoaded(
  store: Awaited<ReturnType<typeof openImageStore>>,
  archive: Buffer,
): Promise<boolean> {
  const request = { archive: streamOf(archive), platform: undefined, report: () => {}, signal };
  return await store.images.archives.load(request).then(
    () => true,
    (error) => {
      assertRefused(error);
      return false;
    },
  );
}

test("whatever stands anywhere in a manifest, an index or a configuration, it is understood or refused", () => {
  const documents = {
    manifest: JSON.parse(manifestBlob(image).bytes.toString()) as unknown,
    index: JSON.parse(indexBlob([image]).bytes.toString()) as unknown,
    config: JSON.parse(configBlob(image).bytes.toString()) as unknown,
  };
  const kind = fc.constantFrom(...(Object.keys(documents) as (keyof typeof documents)[]));
  fc.assert(
    fc.property(kind, fc.nat(), strangeValue, (which, place, value) => {
      const bytes = Buffer.from(written(replacedAt(documents[which], place, value)));
      understandsOrRefuses(() => {
        if (which === "config") {
          JSON.stringify(parseImageConfig(bytes), (_key, each: unknown) =>
            typeof each === "bigint" ? 0 : each,
          );
        } else {
          parseManifest(bytes, "");
        }
      });
    }),
    { numRuns: 1500 },
  );
});

test("bytes that are no JSON are refused as a manifest and as a configuration", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      understandsOrRefuses(() => parseManifest(bytes, "application/vnd.oci.image.manifest.v1+json"));
      understandsOrRefuses(() => parseImageConfig(bytes));
    }),
    { numRuns: 1000 },
  );
});

test("whatever stands in the documents of an archive, it is loaded whole or leaves nothing", async (context) => {
  const store = await openImageStore(context);
  const archives = [
    await dockerArchive([{ image, tags: ["a:1"] }]),
    await ociLayout(image, "docker.io/library/a:1"),
    await legacyArchive(
      [
        { id: "a".repeat(64), parent: "b".repeat(64), layer },
        { id: "b".repeat(64), layer },
      ],
      { a: { "1": "a".repeat(64) } },
    ),
  ];
  const originals = await Promise.all(archives.map(entriesOf));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...originals),
      fc.nat(),
      fc.nat(),
      strangeValue,
      async (entries, which, place, value) => {
        const documents = entries.filter(({ content }) => content.startsWith("{") || content.startsWith("["));
        const chosen = documents[which % documents.length];
        const archive = await tarOf(
          entries.map((entry) =>
            entry === chosen
              ? { name: entry.name, content: written(replacedAt(JSON.parse(entry.content), place, value)) }
              : { name: entry.name, content: Buffer.from(entry.content, "utf8") },
          ),
        );
        const before = { images: store.state.images.size, blobs: (await store.blobs()).length };
        if (!(await isLoaded(store, archive))) {
          assert.deepEqual({ images: store.state.images.size, blobs: (await store.blobs()).length }, before);
        }
        assert.deepEqual(await store.ingests(), []);
      },
    ),
    { numRuns: 120 },
  );
});

test("an archive with any of its bytes changed, lost or doubled is loaded or refused", async (context) => {
  const store = await openImageStore(context);
  const archive = await dockerArchive([{ image, tags: ["a:1"] }]);
  const change = fc.record({
    at: fc.nat({ max: archive.length - 1 }),
    drop: fc.constantFrom(0, 1, 100, 512, 1024),
    insert: fc.uint8Array({ maxLength: 8 }),
  });
  await fc.assert(
    fc.asyncProperty(change, async ({ at, drop, insert }) => {
      const changed = Buffer.concat([archive.subarray(0, at), insert, archive.subarray(at + drop)]);
      await isLoaded(store, changed);
      assert.deepEqual(await store.ingests(), []);
    }),
    { numRuns: 150 },
  );
});

test("an image has at most as many layers as in Docker, from wherever its configuration comes", () => {
  const config = (layers: number): Uint8Array =>
    new TextEncoder().encode(
      JSON.stringify({
        rootfs: { type: "layers", diff_ids: Array(layers).fill(`sha256:${"a".repeat(64)}`) },
      }),
    );
  assert.equal(parseNewImageConfig(config(125)).diffIds.length, 125);
  assert.throws(() => parseNewImageConfig(config(126)), { kind: "invalid", message: "max depth exceeded" });
});

test("a configuration has a bounded number of values: labels are in each list of images", () => {
  const labels = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`label-${index}`, ""]));
  const bytes = new TextEncoder().encode(JSON.stringify({ config: { Labels: labels }, rootfs: {} }));
  assert.throws(() => parseNewImageConfig(bytes), {
    kind: "invalid",
    message: /more than 20000 values, lists and objects$/,
  });
});

test("documents of lists in lists without end are refused before they are parsed", () => {
  const nested = (depth: number): Uint8Array =>
    new TextEncoder().encode(`${"[".repeat(depth)}${"]".repeat(depth)}`);
  const refusal = { kind: "invalid", message: /more than 20000 values, lists and objects$/ };
  assert.throws(() => parseManifest(nested(2_000_000), ""), refusal);
  assert.throws(() => parseNewImageConfig(nested(200_000)), refusal);
});
