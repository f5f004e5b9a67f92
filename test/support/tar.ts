/** Tar files made in memory, equal bytes for equal input. */
import { extract, type Header, pack } from "tar-stream";

/** One entry; what is left out is root's, of 1970 and readable. */
export type TarEntry = Partial<Header> & {
  readonly name: string;
  readonly content?: Uint8Array | string;
};

/** A tar of these entries. */
export async function tarOf(entries: readonly TarEntry[]): Promise<Buffer> {
  const tar = pack();
  const chunks: Buffer[] = [];
  tar.on("data", (chunk) => chunks.push(chunk as Buffer));
  for (const { content, ...header } of entries) {
    const type = header.type ?? "file";
    const entry = {
      mode: type === "directory" ? 0o755 : 0o644,
      mtime: new Date(0),
      uid: 0,
      gid: 0,
      ...header,
      type,
    };
    await new Promise<void>((resolve, reject) => {
      const done = (error?: Error | null): void => (error ? reject(error) : resolve());
      if (type === "file") {
        tar.entry(entry, Buffer.from(content ?? ""), done);
      } else {
        tar.entry(entry, done);
      }
    });
  }
  tar.finalize();
  await new Promise<void>((resolve, reject) => tar.once("end", resolve).once("error", reject));
  return Buffer.concat(chunks);
}

/** An entry that was read. */
export interface ReadEntry extends Header {
  readonly content: string;
}

/** The entries of a tar, in their order. Rejects where it is none, or is cut. */
export async function entriesOf(bytes: Uint8Array): Promise<ReadEntry[]> {
  const reader = extract();
  reader.end(bytes);
  const entries: ReadEntry[] = [];
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) {
      chunks.push(chunk as Buffer);
    }
    entries.push({ ...entry.header, content: Buffer.concat(chunks).toString() });
  }
  return entries;
}
