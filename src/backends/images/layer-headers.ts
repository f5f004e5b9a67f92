/**
 * Caches the headers of recently read layers: an image's files are looked up path by path, and each lookup would
 * otherwise decompress every layer to its end.
 */
import type { Header } from "tar-stream";

import { WeightedMap } from "../../common/weighted-map.ts";
import { weightOf } from "./file-budget.ts";
import { capabilityRecord } from "./tar-entries.ts";
import { entriesIn, type Unpacked } from "./tar-reader.ts";

/** A layer's tar, compressed or not, read from its start each time. */
export interface LayerReader {
  open(): AsyncIterable<Uint8Array>;
  /** Headers of the tar's entries, in order, as {@link headersOf} has them; absent if the tar must be read. */
  headers?(): AsyncIterable<Header>;
}

/** Records of a header that are kept, and the longest that is used: a header may have megabytes of others. */
const keptRecords = ["uid", "gid", "mtime", capabilityRecord] as const;
const longestRecord = 1_024;
/** Headers that a header counts as: long names and records take more room. */
export function costOf({ name, linkname, pax }: Header): number {
  const records = Object.values((pax ?? {}) as Readonly<Record<string, string>>);
  return weightOf(records.reduce((sum, { length }) => sum + length, name.length + (linkname?.length ?? 0)));
}

/** A header without what is not used of it. */
function shortened(header: Header): Header {
  const { name, type, mode, uid, gid, size, mtime, devmajor, devminor } = header;
  const isLink = type === "link" || type === "symlink";
  const records = (header.pax ?? {}) as Readonly<Record<string, string>>;
  const pax = Object.fromEntries(
    keptRecords.flatMap((key) => {
      const value = records[key];
      return value === undefined || value.length > longestRecord ? [] : [[key, value]];
    }),
  );
  const linkname = isLink ? header.linkname : null;
  return { name, type, mode, uid, gid, size, mtime, devmajor, devminor, linkname, pax } as Header;
}

/** A layer's headers. @throws as {@link entriesIn} */
export async function* headersOf(layer: LayerReader, unpacked?: Unpacked): AsyncGenerator<Header> {
  if (layer.headers !== undefined) {
    yield* layer.headers();
    return;
  }
  for await (const { header } of entriesIn(layer.open(), unpacked)) {
    yield shortened(header);
  }
}

/**
 * The most headers to keep, and to hold of layers that are being read; each takes about 400 bytes plus its name, and
 * counts as {@link costOf} says.
 */
const mostKept = 100_000;

/** Keeps the headers of the most recently used layers. */
export class LayerHeaders {
  readonly #limit: number;
  /** By digest, least recently used first. */
  readonly #kept: WeightedMap<string, readonly Header[]>;
  /** Cost of those that are being read. */
  #reading = 0;

  constructor(limit: number = mostKept) {
    this.#limit = limit;
    this.#kept = new WeightedMap(limit);
  }

  /** A layer's headers; opens the layer if they are not cached. @throws as {@link entriesIn} */
  async *of(
    digest: string,
    open: () => AsyncIterable<Uint8Array>,
    unpacked?: Unpacked,
  ): AsyncGenerator<Header> {
    const known = this.#kept.get(digest);
    if (known !== undefined) {
      yield* known;
      return;
    }
    let read: Header[] | undefined = [];
    let cost = 0;
    try {
      for await (const header of headersOf({ open }, unpacked)) {
        const more = read === undefined ? 0 : costOf(header);
        cost += more;
        this.#reading += more;
        if (this.#reading > this.#limit) {
          this.#reading -= cost;
          cost = 0;
          read = undefined;
        }
        read?.push(header);
        yield header;
      }
      if (read !== undefined) {
        this.#kept.set(digest, cost, read);
      }
    } finally {
      this.#reading -= cost;
    }
  }
}
