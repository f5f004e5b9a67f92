import assert from "node:assert/strict";
import { open, readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { describe, it } from "node:test";

import { streamOf } from "../../../test/support/image-store.ts";
import { garbageCollection } from "../../../test/support/garbage-collection.ts";
import { untilTrue } from "../../../test/support/until.ts";
import { BlobWriter, ContentStore } from "./content-store.ts";
import { sha256Of } from "./digest.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const none = (): boolean => false;
const bytes = Buffer.from("some content");
const digest = sha256Of(bytes);

async function openStore(): Promise<{ store: ContentStore; directory: string }> {
  const directory = scratchDirectory();
  return { store: await ContentStore.open(directory), directory };
}

describe("a blob", () => {
  it("lies under its digest, whole", async () => {
    const { store, directory } = await openStore();
    const lease = store.lease();
    assert.deepEqual(await store.put(lease, streamOf(bytes, 5)), { digest, size: bytes.length });
    assert.equal(store.path(digest), path.join(directory, "sha256", digest.slice(7)));
    assert.deepEqual(await readFile(store.path(digest)), bytes);
    assert.deepEqual(await store.read(digest, 100), bytes);
    assert.deepEqual(await store.beginning(digest, 4), bytes.subarray(0, 4));
    assert.deepEqual(await store.beginning(digest, 100), bytes);
    assert.deepEqual(await store.find(digest), { digest, size: bytes.length });
    assert.equal((await stat(store.path(digest))).mode & 0o777, 0o600);
  });

  it("is not stored if it does not match", async () => {
    const { store, directory } = await openStore();
    const lease = store.lease();
    await assert.rejects(store.putBytes(lease, bytes, { digest: sha256Of("other") }), {
      kind: "invalid",
    });
    await assert.rejects(store.putBytes(lease, bytes, { size: 3 }), { kind: "invalid" });
    await assert.rejects(store.put(lease, streamOf(bytes, 4), 5), { kind: "invalid" });
    assert.deepEqual(await readdir(path.join(directory, "sha256")), []);
    assert.deepEqual(await readdir(path.join(directory, "ingest")), []);
  });

  it("is gathered in a bounded memory beside many whose senders fall silent", async () => {
    const { store } = await openStore();
    const lease = store.lease();
    await using writers = new AsyncDisposableStack();
    const collect = garbageCollection();
    const before = process.memoryUsage().arrayBuffers;
    for (let count = 0; count < 700; count++) {
      const writer = writers.use(await store.write(lease));
      for (let chunk = 0; chunk < 5; chunk++) {
        await writer.append(Buffer.alloc(50_000));
      }
    }
    const content = Buffer.alloc(1024 ** 2, "another's");
    assert.equal((await store.put(lease, streamOf(content, 1_000))).digest, sha256Of(content));
    await untilTrue(() => {
      collect();
      return process.memoryUsage().arrayBuffers - before < 110 * 1024 ** 2;
    });
  });

  it("is synced once, and again if it was replaced", async () => {
    const { store } = await openStore();
    const lease = store.lease();
    for (let round = 0; round < 2; round++) {
      await store.putBytes(lease, bytes);
      await store.sync([digest]);
      await rm(store.path(digest));
      await store.sync([digest]); // Nobody looks for it.
    }
    await store.putBytes(lease, bytes);
    await rm(store.path(digest));
    await assert.rejects(store.sync([digest]), { kind: "system" });
    await assert.rejects(store.sync([digest]), { kind: "system" });
  });

  it("can be restarted while it is written", async () => {
    const { store } = await openStore();
    const lease = store.lease();
    await using writer = await store.write(lease);
    await writer.append(Buffer.from("something that is longer than the content"));
    await writer.restart();
    await writer.append(bytes);
    assert.deepEqual(await writer.finish({ digest }), { digest, size: bytes.length });
    assert.deepEqual(await readFile(store.path(digest)), bytes);
  });

  it("is gathered in few pieces, however small it arrives", async () => {
    const { store, directory } = await openStore();
    const temporary = path.join(directory, "ingest", "one");
    const file = await open(temporary, "wx");
    const pieces: number[] = [];
    const writev = file.writev.bind(file);
    file.writev = async (chunks, position) => {
      pieces.push(chunks.length);
      return await writev(chunks, position);
    };
    await using writer = new BlobWriter(store, store.lease(), temporary, file);
    const content = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251));
    let at = 0;
    for (const length of [...Array<number>(100_000).fill(1), 5_000, 3, 4_000, 4_000, 1, 4_096, 1]) {
      await writer.append(content.subarray(at, at + length));
      at += length;
    }
    while (at < content.length) {
      await writer.append(content.subarray(at, ++at));
    }
    assert.equal((await writer.finish()).digest, sha256Of(content));
    assert.ok(Math.max(...pieces) <= 80, `pieces of a write: ${pieces.join()}`);
    assert.deepEqual(await readFile(store.path(sha256Of(content))), content);
  });

  it("is not read if it exceeds the reader's limit", async () => {
    const { store } = await openStore();
    await store.putBytes(store.lease(), bytes);
    await assert.rejects(store.read(digest, 5), { kind: "invalid" });
  });

  it("has no path but that of a SHA-256 digest", async () => {
    const { store } = await openStore();
    for (const wrong of ["", "sha256:..", `sha256:${"A".repeat(64)}`, `sha512:${"a".repeat(128)}`, "../x"]) {
      assert.throws(() => store.path(wrong), { kind: "invalid" });
    }
  });
});

describe("a lease", () => {
  it("deletes its blobs, unless an image refers to them", async () => {
    const { store } = await openStore();
    const lease = store.lease();
    const kept = await store.putBytes(lease, Buffer.from("kept"));
    await store.putBytes(lease, bytes);
    await lease.release((each) => each === kept.digest);
    assert.equal(await store.find(digest), undefined);
    assert.ok(await store.find(kept.digest));
  });

  it("keeps blobs that another lease holds", async () => {
    const { store } = await openStore();
    const [one, two] = [store.lease(), store.lease()];
    await Promise.all([store.putBytes(one, bytes), store.putBytes(two, bytes)]);
    await one.release(none);
    assert.ok(await store.find(digest));
    await two.release(none);
    assert.equal(await store.find(digest), undefined);
  });

  it("keeps a blob from being discarded and collected", async () => {
    const { store } = await openStore();
    const lease = store.lease();
    await store.putBytes(lease, bytes);
    await store.discard([digest]);
    await store.collect(none);
    assert.ok(await store.find(digest));
    const needed = new Set<string>();
    const collected = store.collect((each) => needed.has(each));
    needed.add(digest); // An image is committed while the blobs are listed.
    await Promise.all([lease.release(() => true), collected]);
    assert.ok(await store.find(digest));
  });

  it("wins over a deletion that is under way", async () => {
    const { store } = await openStore();
    const first = store.lease();
    await store.putBytes(first, bytes);
    const released = first.release(none);
    const second = store.lease();
    const [put] = await Promise.all([store.putBytes(second, bytes), released]);
    assert.equal(put.digest, digest);
    assert.ok(await store.find(digest));
  });
});
