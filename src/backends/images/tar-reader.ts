/** Reads tars from elsewhere entry by entry: image layers, clients' archives. They may be compressed. */
import { Readable } from "node:stream";

import { extract, type Header } from "tar-stream";

import { decompressed } from "./layer-content.ts";
import { boundedHeaders } from "./tar-headers.ts";

export interface TarEntry {
  readonly header: Header;
  /** The file's bytes; unread ones are skipped. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** Called with the bytes of each chunk of the decompressed tar; an error that it throws ends the reading. */
export type Unpacked = (bytes: number) => void;

/**
 * The entries of a tar. A reader that stops early ends the source.
 *
 * @param unpacked may end the reading, as a few kilobytes may unpack for minutes
 * @throws as {@link boundedHeaders}; the source's error; the error of `unpacked`; the error for a source that is not a tar
 */
export async function* entriesIn(
  source: AsyncIterable<Uint8Array>,
  unpacked: Unpacked = () => {},
): AsyncGenerator<TarEntry> {
  const { content: tar } = await decompressed(source);
  const entries = extract();
  const input = Readable.from(boundedHeaders(told(tar, unpacked)), { objectMode: false });
  input.once("error", (error) => entries.destroy(error));
  input.pipe(entries);
  try {
    for await (const entry of entries) {
      yield { header: entry.header, content: entry as unknown as AsyncIterable<Uint8Array> };
      entry.resume();
    }
  } finally {
    input.destroy(); // Drops the rest of an unreadable tar.
  }
}

async function* told(chunks: AsyncIterable<Uint8Array>, unpacked: Unpacked): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    unpacked(chunk.length);
    yield chunk;
  }
}
