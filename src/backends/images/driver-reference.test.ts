import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { openImageStore, streamOf } from "../../../test/support/image-store.ts";
import { tarOf } from "../../../test/support/tar.ts";

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
});
