/**
 * Content by digest: `<state>/blobs/sha256/<hex>` holds the bytes with that SHA-256. Manifests, configurations and
 * layers (in their original form: plain, gzip or zstd) are stored side by side.
 *
 * Blobs are written to `<state>/blobs/ingest/` and renamed, so that a blob under its name is complete. The next start
 * deletes what a crash leaves in `ingest`.
 *
 * Durability: nothing is synced while it is being written, which a failed load would do in vain. {@link
 * ContentStore.sync} makes blobs durable, both data and names: configurations and manifests before a record with their
 * digests is committed, layers afterwards (`layer-durability.ts`).
 *
 * Deletion is by references: a blob stays while a {@link BlobLease} holds it or an image refers to it. Leases are in
 * memory and protect work in progress.
 */
import { createHash, type Hash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import path from "node:path";

import { ByteBudget } from "../../common/byte-budget.ts";
import { invalid, messageOf, systemError, unlessMissing } from "../../common/errors.ts";
import { withCallFaultPoints } from "../driver/fault-points.ts";
import { hexOf, isSha256Digest } from "./digest.ts";

/** Size limit of a blob in bytes: far above any layer, but it stops an endless stream. */
const maxBlobBytes = 256 * 1024 ** 3;

/** Bytes per write. */
const gatheredBytes = 256 * 1024;
/** Bytes that all blobs together gather, as their senders may fall silent. */
const gathering = new ByteBudget(64 * 1024 ** 2);
/** Smaller chunks are gathered in blocks of this size: kept one by one, they would take far more than their bytes. */
const blockBytes = 4 * 1024;

/** A stored blob. */
export interface StoredBlob {
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

/** Digest and size (bytes) that a blob must have. */
export interface BlobExpectation {
  readonly digest?: string;
  readonly size?: number;
}

/** The blobs of one backend. Only one process has them open at a time, due to the state's database. */
export class ContentStore {
  readonly #blobs: string;
  readonly #ingest: string;
  /** Number of leases per blob. */
  readonly #holds = new Map<string, number>();
  /** Deletions in progress: a blob with the same digest is put in place only afterwards. */
  readonly #deletions = new Map<string, Promise<void>>();
  /** The sync of each blob that was synced, or is being synced, since it was put in place. */
  readonly #syncs = new Map<string, { done: boolean }>();

  private constructor(directory: string) {
    this.#blobs = path.join(directory, "sha256");
    this.#ingest = path.join(directory, "ingest");
  }

  /** Opens the store in a directory, creates it if missing, and removes files of interrupted writers. */
  static async open(directory: string): Promise<ContentStore> {
    const store = new ContentStore(path.resolve(directory));
    await mkdir(store.#blobs, { recursive: true, mode: 0o700 });
    await mkdir(store.#ingest, { recursive: true, mode: 0o700 });
    // Keeps the directory itself: on a full or read-only disk it could not be created again.
    for (const name of await readdir(store.#ingest)) {
      await rm(path.join(store.#ingest, name), { force: true, recursive: true });
    }
    return store;
  }

  /** The path of a blob's file, which need not exist. @throws invalid if it is not a SHA-256 digest */
  path(digest: string): string {
    if (!isSha256Digest(digest)) {
      throw invalid("unsupported digest algorithm");
    }
    return path.join(this.#blobs, hexOf(digest));
  }

  /** The blob with a digest, or undefined. */
  async find(digest: string): Promise<StoredBlob | undefined> {
    await this.#deletions.get(digest);
    const found = await stat(this.path(digest)).catch(unlessMissing);
    return found && { digest, size: found.size };
  }

  /** Whether all of these blobs are here. */
  async hasAll(digests: readonly string[]): Promise<boolean> {
    const found = await Promise.all(digests.map((digest) => this.find(digest)));
    return !found.includes(undefined);
  }

  /** Reads a small blob. @throws invalid if it is larger than `maxBytes` */
  async read(digest: string, maxBytes: number): Promise<Buffer> {
    const { size } = await stat(this.path(digest));
    if (size > maxBytes) {
      throw invalid(`${digest} has ${size} bytes, at most ${maxBytes} are allowed`);
    }
    return await readFile(this.path(digest));
  }

  /** The first bytes of a blob: as many, or all that it has. */
  async beginning(digest: string, bytes: number): Promise<Uint8Array> {
    await using file = await open(this.path(digest), "r");
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
    return buffer.subarray(0, bytesRead);
  }

  /** Streams a blob's bytes. */
  stream(digest: string, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    return createReadStream(this.path(digest), {
      highWaterMark: 256 * 1024,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** Begins a lease; releasing it deletes what only it holds and nothing refers to. */
  lease(): BlobLease {
    return new BlobLease(this);
  }

  /** Begins to write a blob under a lease. */
  async write(lease: BlobLease): Promise<BlobWriter> {
    const temporary = path.join(this.#ingest, randomUUID());
    return new BlobWriter(this, lease, temporary, await open(temporary, "wx", 0o600));
  }

  /**
   * Stores a stream as a blob under a lease.
   *
   * @throws invalid if it is larger than `maxBytes`; the stream's own error
   */
  async put(
    lease: BlobLease,
    source: AsyncIterable<Uint8Array>,
    maxBytes = maxBlobBytes,
  ): Promise<StoredBlob> {
    await using writer = await this.write(lease);
    for await (const chunk of source) {
      if (writer.size + chunk.length > maxBytes) {
        throw invalid(`content is larger than ${maxBytes} bytes`);
      }
      await writer.append(chunk);
    }
    return await writer.finish();
  }

  /** Reserves a path where a future blob can be written from outside this process. */
  reserve(): ReservedBlob {
    return new ReservedBlob(this, path.join(this.#ingest, randomUUID()));
  }

  /** Stores bytes as a blob under a lease. */
  async putBytes(lease: BlobLease, bytes: Uint8Array, expected: BlobExpectation = {}): Promise<StoredBlob> {
    await using writer = await this.write(lease);
    await writer.append(bytes);
    return await writer.finish(expected);
  }

  /** Makes blobs durable, unless they are already. @throws system if one is missing or the disk fails */
  async sync(digests: Iterable<string>): Promise<void> {
    const waiting = [...new Set(digests)].filter((digest) => this.#syncs.get(digest)?.done !== true);
    if (waiting.length === 0) {
      return;
    }
    const sync = { done: false };
    try {
      for (const digest of waiting) {
        this.#syncs.set(digest, sync);
        await syncPath(this.path(digest));
      }
      await syncPath(this.#blobs);
    } catch (error) {
      throw systemError(`cannot store content: ${messageOf(error)}`, error);
    }
    sync.done = true;
  }

  /** Deletes the blobs that no lease holds; the caller has checked that no image refers to them. */
  async discard(digests: Iterable<string>): Promise<void> {
    await Promise.all([...digests].map((digest) => this.#delete(digest)));
  }

  /** Deletes every blob that no lease holds and that is not referenced; returns their number. */
  async collect(isReferenced: (digest: string) => boolean): Promise<number> {
    const garbage = await this.unneeded(isReferenced);
    await this.discard(garbage);
    return garbage.length;
  }

  /** Digests of the blobs that are not referenced. @param isReferenced called once the blobs are listed */
  async unneeded(isReferenced: (digest: string) => boolean): Promise<readonly string[]> {
    const digests = (await readdir(this.#blobs)).map((name) => `sha256:${name}`);
    return digests.filter((digest) => isSha256Digest(digest) && !isReferenced(digest));
  }

  /** Adds a lease to a blob; for {@link BlobLease}. */
  hold(digest: string): void {
    this.#holds.set(digest, (this.#holds.get(digest) ?? 0) + 1);
  }

  /** Removes a lease from a blob; for {@link BlobLease}. */
  unhold(digest: string): void {
    const holds = this.#holds.get(digest) ?? 0;
    if (holds > 1) {
      this.#holds.set(digest, holds - 1);
    } else {
      this.#holds.delete(digest);
    }
  }

  /** Moves a finished file into place; for {@link BlobWriter}. */
  async place(temporary: string, { digest, size }: StoredBlob): Promise<void> {
    const existing = await this.find(digest);
    if (existing?.size === size) {
      await rm(temporary); // The file in place may have been synced.
    } else {
      await placeFile(temporary, this.path(digest));
      this.#syncs.delete(digest);
    }
  }

  #delete(digest: string): Promise<void> {
    if (this.#holds.has(digest)) {
      return Promise.resolve();
    }
    const underWay = this.#deletions.get(digest);
    if (underWay !== undefined) {
      return underWay;
    }
    this.#syncs.delete(digest);
    const deletion = rm(this.path(digest), { force: true }).finally(() => this.#deletions.delete(digest));
    this.#deletions.set(digest, deletion);
    return deletion;
  }
}

/** Protects blobs from deletion while work needs them. */
export class BlobLease {
  readonly #store: ContentStore;
  readonly #digests = new Set<string>();

  constructor(store: ContentStore) {
    this.#store = store;
  }

  /** Holds blobs, whether or not they exist yet. */
  hold(...digests: readonly string[]): void {
    for (const digest of digests) {
      if (!this.#digests.has(digest)) {
        this.#digests.add(digest);
        this.#store.hold(digest);
      }
    }
  }

  /** Ends the lease and deletes what only it held, unless `isReferenced` is true for it. */
  async release(isReferenced: (digest: string) => boolean): Promise<void> {
    const digests = [...this.#digests];
    this.#digests.clear();
    for (const digest of digests) {
      this.#store.unhold(digest);
    }
    await this.#store.discard(digests.filter((digest) => !isReferenced(digest)));
  }
}

/** A blob, or a directory of blobs, written from outside this process. Disposing removes what did not become a blob. */
export class ReservedBlob implements AsyncDisposable {
  readonly #store: ContentStore;
  /** The file or directory, which does not exist yet. */
  readonly path: string;

  constructor(store: ContentStore, file: string) {
    this.#store = store;
    this.path = file;
  }

  /**
   * Turns the written file into a blob, held by the lease.
   *
   * @param blob digest and size, known to its writer
   * @param file path of the file, for a directory
   */
  async adopt(lease: BlobLease, { digest, size }: StoredBlob, file = this.path): Promise<StoredBlob> {
    lease.hold(digest);
    await this.#store.place(file, { digest, size });
    return { digest, size };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { force: true, recursive: true, maxRetries: 3 });
  }
}

/** A blob being written: append or restart, then finish once, or dispose. */
export class BlobWriter implements AsyncDisposable {
  readonly #store: ContentStore;
  readonly #lease: BlobLease;
  readonly #temporary: string;
  readonly #file: FileHandle;
  #hash: Hash = createHash("sha256");
  #size = 0;
  #placed = false;
  /** Chunks not written to the file yet, and their offset in it. */
  #gathered: Uint8Array[] = [];
  #begun = 0;
  /** Small chunks, from its start on; what is filled does not change. */
  #block = Buffer.alloc(0);
  #filled = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(store: ContentStore, lease: BlobLease, temporary: string, file: FileHandle) {
    this.#store = store;
    this.#lease = lease;
    this.#temporary = temporary;
    this.#file = file;
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Appends bytes, which must not change afterwards; each call must wait for the previous one. Bytes are written in
   * larger pieces while more arrive; a later call reports the failure.
   */
  async append(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#size += chunk.length;
    gathering.take(chunk.length);
    this.#gather(chunk);
    if (this.#size - this.#begun >= gathering.share(0, gatheredBytes)) {
      await this.#writing;
      this.#writing = this.#flush();
      this.#writing.catch(() => {});
    }
  }

  #gather(chunk: Uint8Array): void {
    if (chunk.length >= blockBytes) {
      this.#gathered.push(chunk);
      return;
    }
    if (this.#filled + chunk.length > this.#block.length) {
      this.#block = Buffer.allocUnsafeSlow(blockBytes);
      this.#filled = 0;
    }
    this.#block.set(chunk, this.#filled);
    const last = this.#gathered.at(-1);
    const isBehind = last?.buffer === this.#block.buffer;
    const start = isBehind ? last.byteOffset : this.#filled;
    this.#filled += chunk.length;
    if (isBehind) {
      this.#gathered.pop();
    }
    this.#gathered.push(this.#block.subarray(start, this.#filled));
  }

  async #flush(): Promise<void> {
    const chunks = this.#gathered;
    let position = this.#begun;
    this.#drop();
    let left: Uint8Array[] = chunks;
    while (left.length > 0) {
      const { bytesWritten } = await writeChunks(this.#file, left, position);
      position += bytesWritten;
      left = after(left, bytesWritten);
    }
  }

  /** Forgets the chunks that are not written yet. */
  #drop(): void {
    gathering.give(this.#size - this.#begun);
    this.#gathered = [];
    this.#begun = this.#size;
  }

  /** Drops everything appended. */
  async restart(): Promise<void> {
    await this.#writing;
    this.#drop();
    this.#begun = 0;
    await this.#file.truncate(0);
    this.#hash = createHash("sha256");
    this.#size = 0;
  }

  /**
   * Verifies the appended bytes and turns them into a blob, held by the lease. May be called once.
   *
   * @throws invalid if size or digest do not match; nothing is stored then
   */
  async finish(expected: BlobExpectation = {}): Promise<StoredBlob> {
    await this.#writing;
    await this.#flush();
    const digest = `sha256:${this.#hash.digest("hex")}`;
    if (expected.size !== undefined && expected.size !== this.#size) {
      throw invalid(`unexpected size: expected ${expected.size} bytes, got ${this.#size}`);
    }
    if (expected.digest !== undefined && expected.digest !== digest) {
      throw invalid(`verification failed for digest ${expected.digest}: the content is ${digest}`);
    }
    const blob = { digest, size: this.#size };
    this.#lease.hold(digest);
    await this.#store.place(this.#temporary, blob);
    this.#placed = true;
    return blob;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => {});
    this.#drop();
    await this.#file.close();
    if (!this.#placed) {
      await rm(this.#temporary, { force: true });
    }
  }
}

const placeFile = withCallFaultPoints(rename, () => "blobs.place");

const writeChunks = withCallFaultPoints(
  (file: FileHandle, chunks: readonly Uint8Array[], position: number) => file.writev(chunks, position),
  () => "blobs.append",
);

/** The chunks without their first `bytes` bytes. */
function after(chunks: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skipped = bytes;
  return chunks.flatMap((chunk) => {
    const here = Math.min(skipped, chunk.length);
    skipped -= here;
    return here === chunk.length ? [] : [chunk.subarray(here)];
  });
}

async function syncPath(file: string): Promise<void> {
  await using handle = await open(file, "r");
  await handle.sync();
}
