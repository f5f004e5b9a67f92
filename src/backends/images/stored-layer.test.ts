import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { create } from "@bufbuild/protobuf";

import { scratchDirectory } from "../../../test/support/scratch.ts";
import { ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { ContentStore } from "./content-store.ts";
import { sha256Of } from "./digest.ts";
import { findStoredLayer } from "./stored-layer.ts";

test("a stored layer is read to tell its compression only if its blob is not the tar itself", async () => {
  const store = await ContentStore.open(scratchDirectory());
  const lease = store.lease();
  const plain = Buffer.from("a tar of some length");
  const packed = gzipSync("another tar");
  const record = create(ImageRecordSchema, {
    diffIds: [sha256Of(plain), sha256Of(Buffer.from("another tar"))],
    layerDigests: [sha256Of(plain), sha256Of(packed)],
    layerSizes: [20n, 11n],
  });
  await store.putBytes(lease, plain);
  await store.putBytes(lease, packed);
  const read: string[] = [];
  const beginning = store.beginning.bind(store);
  store.beginning = (digest, bytes) => {
    read.push(digest);
    return beginning(digest, bytes);
  };
  const found = [];
  for (const diffId of record.diffIds) {
    found.push((await findStoredLayer(store, lease, [record], diffId))?.compression);
  }
  assert.deepEqual(found, [undefined, "gzip"]);
  assert.deepEqual(read, [sha256Of(packed)]);
});
