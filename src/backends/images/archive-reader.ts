/**
 * Reads the tar of an image archive into the content store. Entries may have any order and size, so each file becomes a
 * blob under the caller's lease, and memory only holds its name and digest; blobs that no image needs are removed with
 * the lease. Names are keys here, never paths: they do not decide where anything is written.
 */
import path from "node:path/posix";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import { extract } from "tar-stream";

import { errnoOf, invalid, messageOf } from "../../common/errors.ts";
import type { ArchiveEntry as StoredEntry } from "../driver/archives.ts";
import type { BlobLease, ContentStore, ReservedBlob, StoredBlob } from "./content-store.ts";
import type { HeldDocuments } from "./held-documents.ts";
import { decompressed } from "./layer-content.ts";
import { boundedHeaders } from "./tar-headers.ts";

/** The most entries in an archive; Docker's own have a handful per layer. */
const maxEntries = 65_536;
/** The most characters of a name or link target: dockerd unpacks archives, and the kernel takes no longer paths. */
const maxNameCharacters = 4_096;
/** The most of all names and link targets of an archive together, which memory holds; Docker's own are short. */
const maxCharacters = 16 * 1024 ** 2;
/** Bytes of an entry besides its name: maps of names, blobs and layers have it. */
const entryBytes = 512;
const maxLinkHops = 40;

type Entry =
  | { readonly kind: "file"; readonly blob: StoredBlob }
  | { readonly kind: "link"; readonly target: string };

/** The files of an archive by normalized name. */
export class ArchiveFiles {
  /** Names of the top-level directories, without links. */
  readonly folders: ReadonlySet<string>;
  readonly #entries: ReadonlyMap<string, Entry>;

  constructor(entries: ReadonlyMap<string, Entry>, folders: Iterable<string>) {
    this.#entries = entries;
    this.folders = new Set([...folders].filter((name) => !entries.has(name)));
  }

  /** The file with a name, following links within the archive; undefined if there is none. */
  find(name: string): StoredBlob | undefined {
    let at = normalize(name);
    for (let hops = 0; hops < maxLinkHops; hops++) {
      const entry = this.#entries.get(at);
      if (entry === undefined || entry.kind === "file") {
        return entry?.blob;
      }
      at = entry.target;
    }
    return undefined;
  }

  /** The file with a name. @throws invalid, in the operating system's words, if there is none */
  get(name: string): StoredBlob {
    const blob = this.find(name);
    if (blob === undefined) {
      throw invalid(`open ${name}: no such file or directory`);
    }
    return blob;
  }
}

/** Collects the files of an archive from its entries. */
class EntryList {
  readonly #entries = new Map<string, Entry>();
  readonly #folders = new Set<string>();
  readonly #documents: HeldDocuments;
  #characters = 0;

  constructor(documents: HeldDocuments) {
    this.#documents = documents;
  }

  /** Adds an entry other than a file. @param target of a link @throws as {@link addFile} */
  add(name: string, type: string | null | undefined, target: string | null | undefined): void {
    const key = this.#keyOf(name, type === "directory");
    if ((type === "symlink" || type === "link") && typeof target === "string") {
      this.#count(target);
      const base = type === "symlink" ? path.dirname(key) : "";
      this.#entries.set(key, { kind: "link", target: normalize(path.join(base, target)) });
    }
  }

  /** @throws invalid: names too long; unavailable: all archives together have too many */
  addFile(name: string, blob: StoredBlob): void {
    this.#entries.set(this.#keyOf(name, false), { kind: "file", blob });
  }

  files(): ArchiveFiles {
    return new ArchiveFiles(this.#entries, this.#folders);
  }

  #count(name: string): void {
    if (name.length > maxNameCharacters) {
      throw invalid(`archive has a name of more than ${maxNameCharacters} characters`);
    }
    this.#characters += name.length;
    if (this.#characters > maxCharacters) {
      throw invalid(`archive has names of more than ${maxCharacters} characters together`);
    }
    this.#documents.take(2 * name.length);
  }

  #keyOf(name: string, isFolder: boolean): string {
    this.#count(name);
    this.#documents.take(entryBytes);
    const key = normalize(name);
    const [top = ""] = key.split("/", 1);
    if (top !== "" && (key !== top || isFolder)) {
      this.#folders.add(top);
    }
    return key;
  }
}

/**
 * Turns an archive's files, already stored by the driver, into blobs.
 *
 * @param reserved the directory with the files
 * @param documents counts the names
 * @throws errors of `entries`; invalid: names too long; unavailable: all archives together have too many
 */
export async function takeEntries(
  reserved: ReservedBlob,
  lease: BlobLease,
  documents: HeldDocuments,
  entries: AsyncIterable<StoredEntry>,
): Promise<ArchiveFiles> {
  const list = new EntryList(documents);
  let gone: unknown;
  for await (const entry of entries) {
    if (entry.type !== "file") {
      list.add(entry.name, entry.type, "target" in entry ? entry.target : undefined);
      continue;
    }
    try {
      list.addFile(entry.name, await reserved.adopt(lease, entry, entry.path));
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") {
        throw error;
      }
      gone ??= error; // A failed upload also removes its files: the entries throw the cause.
    }
  }
  if (gone !== undefined) {
    throw gone;
  }
  return list.files();
}

/**
 * Reads a whole archive (plain, gzip or zstd).
 *
 * @param documents counts the names
 * @throws invalid: not a tar, cut, too many entries, or names or headers too long; unavailable: all archives together
 *   have too many; the stream's own error
 */
export async function readArchive(
  store: ContentStore,
  lease: BlobLease,
  documents: HeldDocuments,
  source: AsyncIterable<Uint8Array>,
): Promise<ArchiveFiles> {
  const { content } = await decompressed(source);
  const tar = extract();
  const feeding = { error: undefined as unknown };
  const bounded = boundedHeaders(watched(content, feeding));
  const fed = pipeline(Readable.from(bounded, { objectMode: false }), tar).then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  const entries = new EntryList(documents);
  let count = 0;
  try {
    for await (const stream of tar) {
      const { name, type, linkname } = stream.header;
      if (++count > maxEntries) {
        throw invalid(`archive has more than ${maxEntries} entries`);
      }
      if (type === "file" || type === "contiguous-file") {
        entries.addFile(name, await store.put(lease, bytesOf(stream)));
      } else {
        entries.add(name, type, linkname);
        stream.resume();
      }
    }
    const failure = await fed;
    if (failure !== undefined) {
      throw failure.error;
    }
  } catch (error) {
    tar.destroy();
    const failure = await fed;
    // An entry being read only gets the tar's end as its error; the pipeline has the cause.
    const isConsequence = messageOf(error) === "Stream was destroyed" && failure !== undefined;
    throw feeding.error ?? tarError(isConsequence ? failure.error : error);
  }
  return entries.files();
}

/** Adds the type of the chunks, which tar-stream's types leave out. */
function bytesOf(stream: object): AsyncIterable<Uint8Array> {
  return stream as AsyncIterable<Uint8Array>;
}

/**
 * Records the source's own failure, which the pipeline would replace. Errors thrown into this generator after the
 * consumer has failed (a full disk) are not the source's.
 */
async function* watched(
  source: AsyncIterable<Uint8Array>,
  feeding: { error: unknown },
): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    try {
      return await iterator.next();
    } catch (error) {
      feeding.error = error;
      throw error;
    }
  };
  try {
    for (let result = await next(); result.done !== true; result = await next()) {
      yield result.value;
    }
  } finally {
    await iterator.return?.();
  }
}

/** Converts tar-stream's errors to the words of Go's archive/tar, which Docker's users know. */
function tarError(error: unknown): unknown {
  const message = messageOf(error);
  if (message === "Unexpected end of data" || message === "Premature close") {
    return invalid("unexpected EOF", error);
  }
  if (/^(Invalid tar header|Invalid header|Header exceeds)/.test(message)) {
    return invalid("archive/tar: invalid tar header", error);
  }
  return error;
}

/** A name as a key: relative to the archive's root; `..` cannot leave the root. */
function normalize(name: string): string {
  return path.join("/", name).slice(1);
}
