/** Writes files of an index as a tar, with contents from its sources. */
import { systemError } from "../../common/errors.ts";
import type { FileIndex } from "./file-index.ts";
import type { IndexedFile } from "./indexed-file.ts";
import { endOfTar, entryHeader, paddingAfter, type TarHeader } from "./tar-entries.ts";
import type { TarEntry } from "./tar-reader.ts";

/** A file with its name in the tar; a directory's ends in a slash. */
export interface NamedFile {
  readonly name: string;
  readonly file: IndexedFile;
}

/** A file with content, and its names. */
interface Wanted {
  readonly file: IndexedFile;
  readonly names: string[];
}

/**
 * A tar of files: first those without content, in the given order, then the others in the order of the sources, each of
 * which is read once. Files with several names become hard links. File types that a tar cannot represent are omitted.
 *
 * @throws system if a source has changed; errors of reading
 */
export async function* tarOfFiles(
  files: Iterable<NamedFile> | AsyncIterable<NamedFile>,
  index: Pick<FileIndex, "entriesOf">,
): AsyncGenerator<Uint8Array> {
  const sources = new Map<number, Map<number, Wanted>>();
  const written = new Map<IndexedFile, string>();
  for await (const { name, file } of files) {
    const first = written.get(file);
    if (file.type === "file" && file.size > 0) {
      want(sources, name, file);
    } else if (file.type === "directory") {
      yield entryHeader(headerOf(name, file));
    } else if (first !== undefined) {
      yield linkHeader(name, first, file);
    } else if (file.type !== "other") {
      written.set(file, name);
      yield entryHeader(headerOf(name, file));
    }
  }
  for (const [source, wanted] of [...sources].sort(([one], [other]) => one - other)) {
    yield* contentsOf(index.entriesOf(source), wanted);
  }
  yield endOfTar();
}

function want(sources: Map<number, Map<number, Wanted>>, name: string, file: IndexedFile): void {
  const entries = sources.get(file.source) ?? new Map<number, Wanted>();
  sources.set(file.source, entries);
  const wanted = entries.get(file.entry);
  if (wanted === undefined) {
    entries.set(file.entry, { file, names: [name] });
  } else {
    wanted.names.push(name);
  }
}

async function* contentsOf(
  entries: AsyncIterable<TarEntry>,
  wanted: Map<number, Wanted>,
): AsyncGenerator<Uint8Array> {
  let entry = -1;
  for await (const { header, content } of entries) {
    entry++;
    const here = wanted.get(entry);
    if (here === undefined) {
      continue;
    }
    const { file, names } = here;
    const [name = "", ...links] = names;
    if (header.size !== file.size) {
      break;
    }
    yield entryHeader(headerOf(name, file));
    yield* content;
    yield paddingAfter(file.size);
    for (const link of links) {
      yield linkHeader(link, name, file);
    }
    wanted.delete(entry);
    if (wanted.size === 0) {
      return;
    }
  }
  throw systemError("the files have changed since they were looked up");
}

function headerOf(name: string, file: IndexedFile): TarHeader {
  const { type, size, mode, uid, gid, mtime, target, device, capability } = file;
  if (type === "other") {
    throw new TypeError(`${name} has no form in a tar`);
  }
  return { name, type, mode, uid, gid, size: type === "file" ? size : 0, mtime, target, device, capability };
}

function linkHeader(name: string, target: string, file: IndexedFile): Uint8Array {
  return entryHeader({ ...headerOf(name, file), type: "link", target, size: 0, capability: undefined });
}
