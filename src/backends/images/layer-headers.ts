/**
 * Caches the headers of recently read layers: an image's files are looked up path by path, and each lookup would
 * otherwise decompress every layer to its end.
 */
import type { Header } from "tar-stream";

import { entriesIn } from "./tar-reader.ts";

/** A layer's tar, compressed or not, read from its start each time. */
export interface LayerReader {
  open(): AsyncIterable<Uint8Array>;
  /** Headers of the tar's entries, in order; absent if the tar must be read. */
  headers?(): AsyncIterable<Header>;
}

/** A layer's headers. @throws as {@link entriesIn} */
export async function* headersOf(layer: LayerReader): AsyncGenerator<Header> {
  if (layer.headers !== undefined) {
    yield* layer.headers();
    return;
  }
  for await (const { header } of entriesIn(layer.open())) {
    yield header;
  }
}

/** The most headers to keep; each takes about 400 bytes plus its name. */
const mostKept = 100_000;

/** Keeps the headers of the most recently used layers. */
export class LayerHeaders {
  readonly #limit: number;
  /** By digest, least recently used first. */
  readonly #kept = new Map<string, readonly Header[]>();
  #count = 0;

  constructor(limit: number = mostKept) {
    this.#limit = limit;
  }

  /** A layer's headers; opens the layer if they are not cached. @throws as {@link entriesIn} */
  async *of(digest: string, open: () => AsyncIterable<Uint8Array>): AsyncGenerator<Header> {
    const known = this.#kept.get(digest);
    if (known !== undefined) {
      this.#kept.delete(digest);
      this.#kept.set(digest, known);
      yield* known;
      return;
    }
    let read: Header[] | undefined = [];
    for await (const { header } of entriesIn(open())) {
      if (read !== undefined && read.push(header) > this.#limit) {
        read = undefined;
      }
      yield header;
    }
    if (read !== undefined) {
      this.#keep(digest, read);
    }
  }

  #keep(digest: string, headers: readonly Header[]): void {
    if (this.#kept.has(digest)) {
      return; // Two callers have read it concurrently.
    }
    this.#kept.set(digest, headers);
    this.#count += headers.length;
    for (const [oldest, gone] of this.#kept) {
      if (this.#count <= this.#limit) {
        return;
      }
      this.#kept.delete(oldest);
      this.#count -= gone.length;
    }
  }
}
