import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { openImageStore, streamOf, type TestImageStore } from "../../../test/support/image-store.ts";
import { blobOf } from "../../../test/support/images.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { systemError } from "../../common/errors.ts";
import type { StreamImportRequest } from "./image-import.ts";

const rootfs = await tarOf([{ name: "etc/passwd", content: "root:x:0:0::/:/bin/sh\n" }]);
const noise = Buffer.alloc(3000, "not a tar ");
const notATar = { kind: "invalid", message: "archive/tar: invalid tar header" };
const cutOff = { kind: "invalid", message: "unexpected EOF" };

async function importInto(
  store: TestImageStore,
  options: Partial<StreamImportRequest> = {},
): Promise<string> {
  return await store.images.imports.fromStream({
    archive: streamOf(rootfs),
    reference: "",
    comment: "",
    changes: [],
    platform: undefined,
    signal: new AbortController().signal,
    ...options,
  });
}

async function assertRefused(context: TestContext, options: Partial<StreamImportRequest>, expected: object) {
  const store = await openImageStore(context);
  await assert.rejects(importInto(store, options), expected);
  assert.equal(store.state.images.size, 0);
  assert.deepEqual(await store.blobs(), []);
  assert.deepEqual(await store.ingests(), []);
  assert.deepEqual(store.events(), []);
}

describe("an import", () => {
  it("makes an image of one layer", async (context) => {
    const store = await openImageStore(context);
    const id = await importInto(store, {
      reference: "root",
      comment: "a comment",
      changes: ["CMD sh", "ENV A=1"],
    });
    const detail = store.images.catalog.inspect("root:latest");
    assert.equal(detail.id, id);
    assert.deepEqual(detail.diffIds, [blobOf(rootfs).digest]);
    assert.equal(detail.comment, "a comment");
    assert.equal(detail.size, BigInt(rootfs.length));
    assert.deepEqual(detail.config?.cmd?.values, ["/bin/sh", "-c", "sh"]);
    assert.deepEqual(detail.config?.env, ["A=1"]);
    assert.deepEqual(store.events(), ["tag", "import"]);
    assert.deepEqual([...store.preparer.layers], detail.diffIds);
  });

  it("takes a compressed tar and may leave the image without a name", async (context) => {
    const store = await openImageStore(context);
    const id = await importInto(store, { archive: streamOf(gzipSync(rootfs)) });
    const { record } = await store.images.containers.resolve(id);
    assert.deepEqual(record.names, []);
    assert.deepEqual(record.diffIds, [blobOf(rootfs).digest]);
    assert.deepEqual(store.events(), ["import"]);
  });

  it("is refused for an invalid name", async (context) => {
    await assertRefused(context, { reference: "A:B:C" }, { kind: "invalid" });
  });

  it("is refused for an invalid change", async (context) => {
    await assertRefused(context, { changes: ["RUN x"] }, { message: "RUN is not a valid change command" });
  });

  it("is refused if the compression is damaged", async (context) => {
    const archive = streamOf(gzipSync(rootfs).subarray(0, 40));
    await assertRefused(context, { archive }, { kind: "invalid", message: "unexpected EOF" });
  });

  it("is refused if the compressed content is not a complete tar", async (context) => {
    await assertRefused(context, { archive: streamOf(gzipSync(noise)) }, notATar);
    await assertRefused(context, { archive: streamOf(gzipSync(rootfs.subarray(0, 520))) }, cutOff);
    await assertRefused(context, { archive: streamOf(zstdCompressSync(rootfs).subarray(0, -8)) }, cutOff);
  });

  it("is refused if the tar is invalid or cut", async (context) => {
    await assertRefused(context, { archive: streamOf(noise) }, notATar);
    await assertRefused(context, { archive: streamOf(rootfs.subarray(0, 520)) }, cutOff);
    await assertRefused(context, { archive: streamOf(rootfs.subarray(0, 100)) }, cutOff);
  });

  it("takes an empty tar", async (context) => {
    const store = await openImageStore(context);
    await importInto(store, { archive: streamOf(Buffer.alloc(1024)) });
    assert.equal(store.state.images.size, 1);
  });

  it("leaves nothing if the driver cannot unpack it", async (context) => {
    const store = await openImageStore(context);
    store.preparer.failure = systemError("archive/tar: invalid tar header");
    await assert.rejects(importInto(store), { message: "archive/tar: invalid tar header" });
    assert.deepEqual(await store.blobs(), []);
  });
});
