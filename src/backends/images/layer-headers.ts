/**
 * Headers of layers that were read lately, in memory: the files of an image are looked up path by path, and each look would
 * otherwise inflate every layer to its end.
 */
import type { Header } from "tar-stream";

import { entriesIn } from "./tar-reader.ts";

/** A layer's tar, compressed or not, read from its start each time. */
export interface LayerReader {
  open(): AsyncIterable<Uint8Array>;
  /** Headers of the tar's entries, in their order; absent: it has to be read for them. */
  headers?(): AsyncIterable<Header>;
}

/** Headers of a layer. @throws as {@link entriesIn} */
export async function* headersOf(layer: LayerReader): AsyncGenerator<Header> {
  if (layer.headers !== undefined) {
    yield* layer.headers();
    return;
  }
  for await (const { header } of entriesIn(layer.open())) {
    yield header;
  }
}

/** Most headers that are kept; each takes about 400 bytes and its name. */
const mostKept = 100_000;

/** Keeps the headers of the layers that were asked for last. */
export class LayerHeaders {
  readonly #limit: number;
  /** By digest, the one that was asked for last at the end. */
  readonly #kept = new Map<string, readonly Header[]>();
  #count = 0;

  constructor(limit: number = mostKept) {
    this.#limit = limit;
  }

  /** The headers of a layer, which is opened where they are not known. @throws as {@link entriesIn} */
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
      return; // Two have read it at once.
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
