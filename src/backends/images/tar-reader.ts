/** Tars of other people, entry by entry: an image's layers, archives that clients send. They may be compressed. */
import { Readable } from "node:stream";

import { extract, type Header } from "tar-stream";

import { decompressed } from "./layer-content.ts";

/** An entry. */
export interface TarEntry {
  readonly header: Header;
  /** The file's bytes; those that are not read are skipped. */
  readonly content: AsyncIterable<Uint8Array>;
}

/**
 * The entries of a tar. A reader that stops early ends the source.
 *
 * @throws what the source throws; the error of a source that is no tar
 */
export async function* entriesIn(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const { content: tar } = await decompressed(source);
  const entries = extract();
  const input = Readable.from(tar, { objectMode: false });
  input.once("error", (error) => entries.destroy(error));
  input.pipe(entries);
  try {
    for await (const entry of entries) {
      yield { header: entry.header, content: entry as unknown as AsyncIterable<Uint8Array> };
      entry.resume();
    }
  } finally {
    input.destroy(); // The rest of a tar that cannot be read is not wanted.
  }
}
