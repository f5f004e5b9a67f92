/**
 * Content by digest: `<state>/blobs/sha256/<hex>` holds exactly the bytes whose SHA-256 is its name. Manifests,
 * configurations and layers (as they came: plain, gzip or zstd) lie here side by side.
 *
 * Writing goes to `<state>/blobs/ingest/`, then a rename makes the blob visible, so a blob under its name is whole. What
 * a crash leaves in `ingest` is deleted at the next start.
 *
 * Durability: nothing is synced while it is taken in, since most of a failed load would be synced for nothing.
 * {@link ContentStore.sync} makes blobs durable, data and names: configurations and manifests before a record that names
 * them is committed, layers behind it (`layer-durability.ts`).
 *
 * Deleting is by references: a blob stays while a {@link BlobLease} holds it or an image names it. Leases are in
 * memory, they guard work under way.
 */
import { createHash, type Hash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import path from "node:path";

import { errnoOf, invalid, messageOf, systemError } from "../../common/errors.ts";
import { withCallFaultPoints } from "../driver/fault-points.ts";
import { hexOf, isSha256Digest } from "./digest.ts";

/** The largest blob that is taken in, in bytes: far above any layer, below what an endless stream would write. */
const maxBlobBytes = 256 * 1024 ** 3;

/** How much is written at once. */
const gatheredBytes = 256 * 1024;

/** A blob that is there. */
export interface StoredBlob {
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

/** Digest and size (bytes) that a blob must turn out to have. */
export interface BlobExpectation {
  readonly digest?: string;
  readonly size?: number;
}

/** The blobs of one backend. One process has it open at a time, which the state's database sees to. */
export class ContentStore {
  readonly #blobs: string;
  readonly #ingest: string;
  /** How many leases hold a blob. */
  readonly #holds = new Map<string, number>();
  /** Deletions under way: a blob of the same name is put in place only afterwards. */
  readonly #deletions = new Map<string, Promise<void>>();
  /** By the blobs that were synced since they were put in place, or are being, the sync that did it. */
  readonly #syncs = new Map<string, { done: boolean }>();

  private constructor(directory: string) {
    this.#blobs = path.join(directory, "sha256");
    this.#ingest = path.join(directory, "ingest");
  }

  /** Opens the store in a directory, makes it where there is none, and clears what interrupted writers left. */
  static async open(directory: string): Promise<ContentStore> {
    const store = new ContentStore(path.resolve(directory));
    await mkdir(store.#blobs, { recursive: true, mode: 0o700 });
    await mkdir(store.#ingest, { recursive: true, mode: 0o700 });
    // The directory itself stays: on a disk that is full, or read-only, it could not be made again.
    for (const name of await readdir(store.#ingest)) {
      await rm(path.join(store.#ingest, name), { force: true, recursive: true });
    }
    return store;
  }

  /** The path of a blob's file, whether it is there or not. @throws invalid: no SHA-256 digest */
  path(digest: string): string {
    if (!isSha256Digest(digest)) {
      throw invalid("unsupported digest algorithm");
    }
    return path.join(this.#blobs, hexOf(digest));
  }

  /** The blob of that digest, or undefined. */
  async find(digest: string): Promise<StoredBlob | undefined> {
    await this.#deletions.get(digest);
    try {
      return { digest, size: (await stat(this.path(digest))).size };
    } catch (error) {
      if (errnoOf(error) === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  }

  /** A small blob whole. Throws `invalid` where it is larger than `maxBytes`. */
  async read(digest: string, maxBytes: number): Promise<Buffer> {
    const { size } = await stat(this.path(digest));
    if (size > maxBytes) {
      throw invalid(`${digest} has ${size} bytes, at most ${maxBytes} are allowed`);
    }
    return await readFile(this.path(digest));
  }

  /** A blob's bytes from the start. */
  stream(digest: string, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    return createReadStream(this.path(digest), {
      highWaterMark: 256 * 1024,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** Begins a lease; what it took in and nobody else needs goes when it is released. */
  lease(): BlobLease {
    return new BlobLease(this);
  }

  /** Begins a blob under a lease. */
  async write(lease: BlobLease): Promise<BlobWriter> {
    const temporary = path.join(this.#ingest, randomUUID());
    return new BlobWriter(this, lease, temporary, await open(temporary, "wx", 0o600));
  }

  /**
   * Takes in a stream as a blob under a lease.
   *
   * @throws invalid where it is not what was expected or larger than `maxBytes`; the stream's own error
   */
  async put(
    lease: BlobLease,
    source: AsyncIterable<Uint8Array>,
    expected: BlobExpectation = {},
    maxBytes = maxBlobBytes,
  ): Promise<StoredBlob> {
    await using writer = await this.write(lease);
    for await (const chunk of source) {
      if (writer.size + chunk.length > maxBytes) {
        throw invalid(`content is larger than ${maxBytes} bytes`);
      }
      await writer.append(chunk);
    }
    return await writer.finish(expected);
  }

  /** A place where somebody else may write what is to become a blob. */
  reserve(): ReservedBlob {
    return new ReservedBlob(this, path.join(this.#ingest, randomUUID()));
  }

  /** Takes in bytes as a blob under a lease. */
  async putBytes(lease: BlobLease, bytes: Uint8Array, expected: BlobExpectation = {}): Promise<StoredBlob> {
    await using writer = await this.write(lease);
    await writer.append(bytes);
    return await writer.finish(expected);
  }

  /** Makes these blobs durable, where they are not yet. Throws `system` where one is missing or the disk fails. */
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

  /** Deletes those of these blobs that no lease holds; the caller knows that no image names them. */
  async discard(digests: Iterable<string>): Promise<void> {
    await Promise.all([...digests].map((digest) => this.#delete(digest)));
  }

  /** Deletes every blob that neither a lease holds nor `isReferenced` claims, and answers how many those were. */
  async collect(isReferenced: (digest: string) => boolean): Promise<number> {
    const garbage = await this.unneeded(isReferenced);
    await this.discard(garbage);
    return garbage.length;
  }

  /** Digests of the blobs that `isReferenced` does not claim. */
  async unneeded(isReferenced: (digest: string) => boolean): Promise<readonly string[]> {
    const digests = (await readdir(this.#blobs)).map((name) => `sha256:${name}`);
    return digests.filter((digest) => isSha256Digest(digest) && !isReferenced(digest));
  }

  /** Counts a hold; for {@link BlobLease}. */
  hold(digest: string): void {
    this.#holds.set(digest, (this.#holds.get(digest) ?? 0) + 1);
  }

  /** Gives a hold back; for {@link BlobLease}. */
  unhold(digest: string): void {
    const holds = this.#holds.get(digest) ?? 0;
    if (holds > 1) {
      this.#holds.set(digest, holds - 1);
    } else {
      this.#holds.delete(digest);
    }
  }

  /** Puts a finished file in its place; for {@link BlobWriter}. */
  async place(temporary: string, digest: string): Promise<void> {
    await this.#deletions.get(digest);
    const existing = await this.find(digest);
    if (existing?.size === (await stat(temporary)).size) {
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
    this.#syncs.delete(digest);
    const deletion = rm(this.path(digest), { force: true }).finally(() => this.#deletions.delete(digest));
    this.#deletions.set(digest, deletion);
    return deletion;
  }
}

/** Keeps blobs from being deleted while work that needs them is under way. */
export class BlobLease {
  readonly #store: ContentStore;
  readonly #digests = new Set<string>();

  constructor(store: ContentStore) {
    this.#store = store;
  }

  /** Holds blobs, whether they are there yet or not. */
  hold(...digests: readonly string[]): void {
    for (const digest of digests) {
      if (!this.#digests.has(digest)) {
        this.#digests.add(digest);
        this.#store.hold(digest);
      }
    }
  }

  /** Ends the lease and deletes what only it held, unless `isReferenced` claims it. */
  async release(isReferenced: (digest: string) => boolean): Promise<void> {
    const digests = [...this.#digests];
    this.#digests.clear();
    for (const digest of digests) {
      this.#store.unhold(digest);
    }
    await this.#store.discard(digests.filter((digest) => !isReferenced(digest)));
  }
}

/** A blob, or a folder of them, that somebody else writes. What has not become a blob goes when this is disposed of. */
export class ReservedBlob implements AsyncDisposable {
  readonly #store: ContentStore;
  /** The file, or the folder, which is not there yet. */
  readonly path: string;

  constructor(store: ContentStore, file: string) {
    this.#store = store;
    this.path = file;
  }

  /**
   * Makes a blob of what was written, held by the lease.
   *
   * @param blob its digest and size, which its writer knows
   * @param file the one in the folder
   */
  async adopt(lease: BlobLease, { digest, size }: StoredBlob, file = this.path): Promise<StoredBlob> {
    lease.hold(digest);
    await this.#store.place(file, digest);
    return { digest, size };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { force: true, recursive: true, maxRetries: 3 });
  }
}

/** A blob being written: appended to, begun anew, and finished once or discarded. */
export class BlobWriter implements AsyncDisposable {
  readonly #store: ContentStore;
  readonly #lease: BlobLease;
  readonly #temporary: string;
  readonly #file: FileHandle;
  #hash: Hash = createHash("sha256");
  #size = 0;
  #placed = false;
  /** Chunks not yet given to the file, and their offset in it. */
  #gathered: Uint8Array[] = [];
  #begun = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(store: ContentStore, lease: BlobLease, temporary: string, file: FileHandle) {
    this.#store = store;
    this.#lease = lease;
    this.#temporary = temporary;
    this.#file = file;
  }

  /** Bytes appended so far. */
  get size(): number {
    return this.#size;
  }

  /**
   * Appends bytes, which have to stay as they are; the next call waits for this one. They are written with those that
   * follow, while these come; what fails is told by a later call.
   */
  async append(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#size += chunk.length;
    this.#gathered.push(chunk);
    if (this.#size - this.#begun >= gatheredBytes) {
      await this.#writing;
      this.#writing = this.#flush();
      this.#writing.catch(() => {});
    }
  }

  async #flush(): Promise<void> {
    const chunks = this.#gathered;
    let position = this.#begun;
    this.#gathered = [];
    this.#begun = this.#size;
    let left: Uint8Array[] = chunks;
    while (left.length > 0) {
      const { bytesWritten } = await writeChunks(this.#file, left, position);
      position += bytesWritten;
      left = after(left, bytesWritten);
    }
  }

  /** Forgets what was appended. */
  async restart(): Promise<void> {
    await this.#writing;
    this.#gathered = [];
    this.#begun = 0;
    await this.#file.truncate(0);
    this.#hash = createHash("sha256");
    this.#size = 0;
  }

  /**
   * Checks what was appended and makes it a blob, held by the lease. Call it once.
   *
   * @throws invalid where size or digest are not the expected ones; nothing is stored then
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
    this.#lease.hold(digest);
    await this.#store.place(this.#temporary, digest);
    this.#placed = true;
    return { digest, size: this.#size };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => {});
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

/** The rest of some chunks behind so many bytes. */
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
