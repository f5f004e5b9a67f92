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
  const index = { records: () => [] } as unknown as ImageIndex;
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
