/**
 * The files of an image, as far as their names and kinds go: what a container that has not run yet would find where. Built
 * from the layers, bottom first, whiteouts applied; contents are not kept.
 */
import path from "node:path";
import { Readable } from "node:stream";

import { extract, type Header } from "tar-stream";

import { decompressed } from "./layer-content.ts";

/** A file, directory or link. */
export interface IndexedFile {
  readonly type: "file" | "directory" | "symlink" | "other";
  readonly size: number;
  /** Permission bits, set-user-ID, set-group-ID and sticky among them, as in a tar. */
  readonly mode: number;
  readonly mtime: Date;
  /** Where a symlink points, as it is written. */
  readonly target: string;
}

const whiteout = ".wh.";
const opaqueWhiteout = ".wh..wh..opq";
/** As Linux does. */
const mostLinks = 40;
const root: IndexedFile = { type: "directory", size: 0, mode: 0o755, mtime: new Date(0), target: "" };

/** Names of one file system. */
export class FileIndex {
  readonly #files = new Map<string, IndexedFile>([["/", root]]);

  /** Lays a layer over what is there. @throws what reading it throws */
  async addLayer(content: AsyncIterable<Uint8Array>): Promise<void> {
    const hidden: string[] = [];
    const added = new Map<string, IndexedFile>();
    await eachEntry(content, (header) => {
      const name = path.posix.resolve("/", header.name);
      const base = path.posix.basename(name);
      if (base === opaqueWhiteout) {
        hidden.push(`${withSlash(path.posix.dirname(name))}`);
      } else if (base.startsWith(whiteout)) {
        const gone = path.posix.join(path.posix.dirname(name), base.slice(whiteout.length));
        hidden.push(gone, `${gone}/`);
      } else {
        added.set(name, this.#fileOf(header, added));
      }
    });
    for (const each of hidden) {
      this.#hide(each);
    }
    this.#put(added);
  }

  /** Unpacks an archive into a directory that is there. */
  async addArchive(directory: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    const into = this.#resolve(directory) ?? path.posix.resolve("/", directory);
    const added = new Map<string, IndexedFile>();
    await eachEntry(content, (header) => {
      added.set(path.posix.join(into, path.posix.resolve("/", header.name)), this.#fileOf(header, added));
    });
    this.#put(added);
  }

  /** What lies at a path; links in its parents are followed, the last element is not. */
  find(wanted: string): IndexedFile | undefined {
    const clean = path.posix.resolve("/", wanted);
    const parent = this.#resolve(path.posix.dirname(clean));
    return parent === undefined
      ? undefined
      : this.#files.get(path.posix.join(parent, path.posix.basename(clean)));
  }

  /** The path to which links lead; undefined: to nothing. */
  #resolve(wanted: string, left = mostLinks): string | undefined {
    let at = "/";
    const elements = path.posix
      .join("/", wanted)
      .split("/")
      .filter((element) => element !== "");
    for (const [index, element] of elements.entries()) {
      const next = path.posix.join(at, element);
      const file = this.#files.get(next);
      if (file === undefined || left === 0) {
        return undefined;
      }
      if (file.type === "symlink") {
        const rest = elements.slice(index + 1).join("/");
        return this.#resolve(path.posix.join(path.posix.resolve(at, file.target), rest), left - 1);
      }
      at = next;
    }
    return at;
  }

  /** Where a symlink leads in the end, absolute; where that is nothing, where it points. */
  targetOf(link: string): string {
    const clean = path.posix.resolve("/", link);
    const target = this.find(clean)?.target ?? "";
    return this.#resolve(clean) ?? path.posix.resolve(path.posix.dirname(clean), target);
  }

  /** Directories that a tar leaves out exist all the same. */
  #put(added: ReadonlyMap<string, IndexedFile>): void {
    for (const [name, file] of added) {
      for (
        let parent = path.posix.dirname(name);
        !this.#files.has(parent);
        parent = path.posix.dirname(parent)
      ) {
        this.#files.set(parent, root);
      }
      const before = this.#files.get(name);
      if (before?.type === "directory" && file.type !== "directory") {
        this.#hide(`${name}/`);
      }
      this.#files.set(name, file);
    }
  }

  #hide(prefix: string): void {
    if (!prefix.endsWith("/")) {
      this.#files.delete(prefix);
      return;
    }
    for (const name of this.#files.keys()) {
      if (name !== "/" && name.startsWith(prefix)) {
        this.#files.delete(name);
      }
    }
  }

  #fileOf(header: Header, added: ReadonlyMap<string, IndexedFile>): IndexedFile {
    const { type, size = 0, mode = 0, mtime = new Date(0), linkname } = header;
    const file = { size, mode, mtime, target: "" };
    switch (type) {
      case "directory":
        return { ...file, type: "directory" };
      case "symlink":
        return { ...file, type: "symlink", target: linkname ?? "" };
      case "link": {
        const target = path.posix.resolve("/", linkname ?? "");
        return added.get(target) ?? this.#files.get(target) ?? { ...file, type: "file" };
      }
      case "file":
      case "contiguous-file":
        return { ...file, type: "file" };
      default:
        return { ...file, type: "other" };
    }
  }
}

function withSlash(directory: string): string {
  return directory === "/" ? "/" : `${directory}/`;
}

/** Every entry of a tar, which may be compressed; contents are skipped. */
async function eachEntry(content: AsyncIterable<Uint8Array>, take: (header: Header) => void): Promise<void> {
  const { content: tar } = await decompressed(content);
  const entries = extract();
  const source = Readable.from(tar, { objectMode: false });
  source.once("error", (error) => entries.destroy(error));
  source.pipe(entries);
  try {
    for await (const entry of entries) {
      take(entry.header);
      entry.resume();
    }
  } finally {
    source.destroy(); // Of a tar that cannot be read the rest is not wanted.
  }
}
