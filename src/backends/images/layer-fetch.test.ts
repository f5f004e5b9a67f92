import assert from "node:assert/strict";
import { test } from "node:test";

import type { DownloadContext } from "./blob-download.ts";
import type { ImageConfig } from "./image-config.ts";
import type { ImageIndex } from "./image-index.ts";
import { LayerFetch } from "./layer-fetch.ts";
import { Limiter } from "../concurrency/limiter.ts";

test("a pull unpacks three of its layers at a time", async () => {
  const store = { find: (digest: string) => Promise.resolve({ digest, size: 1 }) };
  const { signal } = new AbortController();
  const download = { store, signal, lease: { hold() {} }, report() {} } as unknown as DownloadContext;
  const index = { images: { referringTo: () => [] } } as unknown as ImageIndex;
  let underWay = 0;
  let most = 0;
  const fetch = new LayerFetch(download, index, new Limiter(3), async () => {
    underWay += 1;
    most = Math.max(most, underWay);
    await new Promise((resolve) => setImmediate(resolve));
    underWay -= 1;
    return 1;
  });
  const digests = Array.from({ length: 20 }, (_, layer) => `sha256:${String(layer).padStart(64, "0")}`);
  const layers = await fetch.fetch(
    digests.map((digest) => ({ digest, size: 1, mediaType: "" })),
    { diffIds: digests } as unknown as ImageConfig,
  );
  assert.equal(layers.length, 20);
  assert.equal(most, 3);
});

test("a layer that is here is looked up among the images that have its blob", async () => {
  const here = (digest: string): string => `${digest}0`;
  const store = { find: (digest: string) => Promise.resolve({ digest, size: 1 }) };
  const { signal } = new AbortController();
  const download = { store, signal, lease: { hold() {} }, report() {} } as unknown as DownloadContext;
  const unchecked = { diffIds: ["other", "a0"], layerDigests: ["x", "a"], layerSizes: [] };
  const referringTo = (digest: string) => [
    unchecked,
    { diffIds: ["other", here(digest)], layerDigests: ["x", digest], layerSizes: [1n, 7n] },
  ];
  const fetch = new LayerFetch(
    download,
    { images: { referringTo } } as unknown as ImageIndex,
    new Limiter(3),
    () => Promise.reject(new Error("it was unpacked before")),
  );
  const layers = await fetch.fetch(
    ["a", "b"].map((digest) => ({ digest, size: 1, mediaType: "" })),
    { diffIds: ["a0", "b0"] } as unknown as ImageConfig,
  );
  assert.deepEqual(layers, [
    { diffId: "a0", digest: "a", size: 7 },
    { diffId: "b0", digest: "b", size: 7 },
  ]);
});
