import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";

import { invalid } from "../../common/errors.ts";
import type { ArchiveEntry } from "../driver/archives.ts";
import { takeEntries } from "./archive-reader.ts";
import { ContentStore } from "./content-store.ts";
import { HeldDocuments } from "./held-documents.ts";
import { sha256Of } from "./digest.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

test("a failed upload reports its cause, although its files were removed first", async () => {
  const directory = scratchDirectory();
  const store = await ContentStore.open(directory);
  await using reserved = store.reserve();
  const file: ArchiveEntry = {
    name: "file",
    type: "file",
    path: path.join(reserved.path, "1"),
    digest: sha256Of("content"),
    size: 7,
  };
  async function* entries(end?: Error): AsyncGenerator<ArchiveEntry> {
    yield await Promise.resolve(file);
    if (end !== undefined) {
      throw end;
    }
  }
  using documents = new HeldDocuments();
  const lease = store.lease();
  await assert.rejects(takeEntries(reserved, lease, documents, entries(invalid("unexpected EOF"))), {
    message: "unexpected EOF",
  });
  await assert.rejects(takeEntries(reserved, lease, documents, entries()), { code: "ENOENT" });
  await lease.release(() => false);
  assert.deepEqual(await readdir(path.join(directory, "sha256")), []);
});
