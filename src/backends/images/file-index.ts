/**
 * The files that a container would find at its first start: those of its image's layers, bottom first,
 * whiteouts applied, and of archives that were unpacked over them. Names and metadata are in memory, at most
 * {@link mostFiles}; contents stay where they are, and each file says where that is.
 */
import path from "node:path";

import type { Header } from "tar-stream";

import { invalid } from "../../common/errors.ts";
import {
  type CountNode,
  countOf,
  elementsOf,
  type Hidden,
  lay,
  makeDirectory,
  type MountedFiles,
  type Node,
  nodeAt,
  put,
  putOver,
  sorted,
} from "./file-tree.ts";
import { cleanPath, fileOf, type IndexedFile, implied } from "./indexed-file.ts";
import { headersOf, type LayerReader } from "./layer-headers.ts";

/** Result of looking a path up. */
export type Found =
  | {
      readonly kind: "file";
      readonly file: IndexedFile;
      readonly isElsewhere: boolean;
      /** It is in a mount point, or is one. */
      readonly isMounted: boolean;
    }
  | { readonly kind: "missing"; readonly isElsewhere: boolean }
  /** An element with something beneath it, or a slash behind it, is no directory. */
  | { readonly kind: "not-a-directory" };

/** A file with its path. */
export interface WalkedFile {
  /** Path from where the walk began; empty: that place itself. */
  readonly path: string;
  readonly file: IndexedFile;
}

/** A file that archives have made different from the image's. */
export interface ChangedFile {
  /** Absolute. */
  readonly path: string;
  readonly file: IndexedFile;
  /** `none`: a directory in which something differs. */
  readonly kind: "added" | "modified" | "none";
}

/** The owner of an archive's entries, in place of the one that the archive names. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Most files of one image with everything put over it, and of one tar; each takes about 300 bytes and its
 * name. Directories that only the paths of others name count too.
 */
const mostFiles = 1_000_000;
/** Links followed in one path, as in Linux. */
const mostLinks = 40;
const whiteout = ".wh.";
const opaqueWhiteout = ".wh..wh..opq";
/** The place that a path leads to. */
interface Place {
  /** Elements, links followed. */
  readonly names: string[];
  readonly node: Node | undefined;
  /** It leads through something that is no directory. */
  readonly isBlocked: boolean;
  /** It is in a mount point whose files are elsewhere. */
  readonly isElsewhere: boolean;
  readonly isMounted: boolean;
}

/** Names of one file system. */
export class FileIndex {
  readonly #limit: number;
  readonly #root: Node = { file: implied };
  readonly #sources: (() => AsyncIterable<Uint8Array>)[] = [];
  #files = 0;

  constructor(limit: number = mostFiles) {
    this.#limit = limit;
  }

  /** The tar of that number, from its start. */
  open(source: number): AsyncIterable<Uint8Array> {
    const open = this.#sources[source];
    if (open === undefined) {
      throw new RangeError(`there is no source ${source}`);
    }
    return open();
  }

  /**
   * Lays a layer over what is there.
   *
   * @param reader its headers are read now, its contents when they are asked for
   * @throws invalid: too many files, a path that is too long; what reading it throws
   */
  async addLayer(reader: LayerReader): Promise<void> {
    const source = this.#sources.push(() => reader.open()) - 1;
    const layer: Node = { file: implied };
    const hidden = new Map<Node, Hidden>();
    const hiddenBy = (directory: Node): Hidden => {
      const known = hidden.get(directory) ?? { all: false, names: [] };
      hidden.set(directory, known);
      return known;
    };
    let made = 0;
    const count = (): void => this.#refuseMany(made++);
    for await (const { header, entry } of this.#entries(reader)) {
      const elements = elementsOf(cleanPath(header.name));
      const base = elements.pop();
      if (base === undefined) {
        layer.file = fileOf(header, source, entry);
        continue;
      }
      const directory = makeDirectory(layer, elements, count);
      if (base === opaqueWhiteout) {
        hiddenBy(directory).all = true;
      } else if (base.startsWith(whiteout)) {
        hiddenBy(directory).names.push(base.slice(whiteout.length));
      } else {
        const linked = header.type === "link" ? elementsOf(cleanPath(header.linkname ?? "")) : undefined;
        const file =
          (linked && (nodeAt(layer, linked) ?? nodeAt(this.#root, linked))?.file) ??
          fileOf(header, source, entry);
        put(directory, base, file, count);
      }
    }
    lay(this.#root, layer, hidden);
    this.#added(made);
  }

  /**
   * Unpacks an archive into a directory, as the agent does when the container starts: from an entry on that cannot be
   * unpacked it leaves everything out. The agent will say why.
   *
   * @returns false: there is no such directory
   * @throws as {@link addLayer}
   */
  async addArchive(
    directory: string,
    open: () => AsyncIterable<Uint8Array>,
    owner?: FileOwner,
  ): Promise<boolean> {
    const source = this.#sources.push(open) - 1;
    const into = this.#follow(directory, true);
    if (into.node?.file.type !== "directory") {
      return false;
    }
    const top = `/${into.names.join("/")}`;
    let made = 0;
    const count = (): void => this.#refuseMany(made++);
    for await (const { header, entry } of this.#entries({ open })) {
      const name = path.posix.join(top, header.name);
      if (!isWithin(top, name) || !isWithin(top, linkedPath(header, top, name))) {
        break;
      }
      const elements = elementsOf(cleanPath(name));
      const base = elements.pop();
      if (base === undefined || elements.length < into.names.length) {
        continue; // The directory itself stays as it is.
      }
      const parent = this.#makeDirectory(elements, putOver, count);
      const file =
        header.type === "link"
          ? this.#follow(linkedPath(header, top, name), false).node?.file
          : { ...fileOf(header, source, entry), ...owner };
      if (parent === undefined || file === undefined) {
        break;
      }
      putOver(parent, base, file, count);
    }
    this.#added(made);
    return true;
  }

  /**
   * Adds a directory, and those above it, where they are missing; nothing where a file is in the way.
   *
   * @throws invalid: too many files, a path that is too long
   */
  addDirectory(directory: string): void {
    let made = 0;
    this.#makeDirectory(elementsOf(cleanPath(directory)), putOver, () => this.#refuseMany(made++));
    this.#added(made);
  }

  /**
   * Makes a directory a mount point; one that is missing is made, as a runtime does, which counts as no change.
   *
   * @throws invalid: too many files, a path that is too long
   */
  addMount(directory: string, mounted: MountedFiles): void {
    let made = 0;
    const node = this.#makeDirectory(elementsOf(cleanPath(directory)), put, () => this.#refuseMany(made++));
    this.#added(made);
    if (node !== undefined) {
      node.mounted = mounted;
      node.children = mounted === "image" ? node.children : undefined;
    }
  }

  /**
   * Looks a path up; links never lead out of the root. The last element is followed only if a slash or `/.`
   * comes behind it.
   */
  find(wanted: string): Found {
    const asksDirectory = /\/\.?$/.test(wanted) || wanted === ".";
    const { node, isBlocked, isElsewhere, isMounted } = this.#follow(wanted, asksDirectory);
    if (isBlocked || (asksDirectory && node !== undefined && node.file.type !== "directory")) {
      return { kind: "not-a-directory" };
    }
    return node === undefined
      ? { kind: "missing", isElsewhere }
      : { kind: "file", file: node.file, isElsewhere, isMounted };
  }

  /** Absolute path to which a symlink leads in the end, links followed as far as there is something. */
  targetOf(link: string): string {
    return `/${this.#follow(link, true).names.join("/")}`;
  }

  /**
   * A file and what is beneath it, directories before what is in them, in the order of their names.
   *
   * @param entersMounts false: mount points show empty
   * @param refuse told of a mount point whose files are elsewhere, and throws
   */
  *walk(
    wanted: string,
    entersMounts: boolean,
    refuse: (mountPoint: string) => never,
  ): Generator<WalkedFile, void> {
    const asksDirectory = /\/\.?$/.test(wanted) || wanted === ".";
    const { node, names } = this.#follow(wanted, asksDirectory);
    if (node === undefined) {
      return;
    }
    const start = names.length;
    const below = function* (here: Node, at: string[]): Generator<WalkedFile, void> {
      yield { path: at.slice(start).join("/"), file: here.file };
      if (here.mounted === "elsewhere" && entersMounts) {
        refuse(`/${at.join("/")}`);
      }
      if (here.mounted === undefined || entersMounts) {
        for (const [name, child] of sorted(here.children)) {
          yield* below(child, [...at, name]);
        }
      }
    };
    yield* below(node, names);
  }

  /**
   * The files that archives have changed, each behind the directories that it is in. Files in mount points do
   * not count.
   *
   * @param touched counts a file that an archive has brought, even where nothing tells it from the image's
   */
  *changes(touched: boolean): Generator<ChangedFile, void> {
    const waiting: ChangedFile[] = [];
    const below = function* (here: Node, at: string): Generator<ChangedFile, void> {
      for (const [name, child] of sorted(here.children)) {
        const { file, before } = child;
        const changed: ChangedFile = { path: `${at}/${name}`, file, kind: kindOf(file, before, touched) };
        const known = waiting.length;
        waiting.push(changed);
        if (changed.kind !== "none") {
          yield* waiting.splice(0);
        }
        if (child.mounted === undefined) {
          yield* below(child, changed.path);
        }
        waiting.length = Math.min(waiting.length, known);
      }
    };
    yield* below(this.#root, "");
  }

  /**
   * Makes the missing directories of a path, links followed; undefined: something in the way is no directory.
   */
  #makeDirectory(elements: readonly string[], make: typeof put, count: CountNode): Node | undefined {
    let place = this.#follow(elements.join("/"), true);
    if (place.isBlocked) {
      return undefined;
    }
    if (place.node === undefined) {
      let at = this.#root;
      for (const name of place.names) {
        at = at.children?.get(name) ?? make(at, name, implied, count);
      }
      place = { ...place, node: at };
    }
    return place.node?.file.type === "directory" ? place.node : undefined;
  }

  /** @param followsLast whether its last element is followed, too */
  #follow(wanted: string, followsLast: boolean): Place {
    const waiting = elementsOf(path.posix.join("/", wanted)).reverse();
    let way: { readonly name: string; readonly node: Node | undefined }[] = [];
    let links = 0;
    let isMissing = false;
    let isBlocked = false;
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      const here = way.length === 0 ? this.#root : way.at(-1)?.node;
      if (here !== undefined && here.file.type !== "directory") {
        isBlocked = true;
      }
      if (name === "..") {
        way.pop();
        continue;
      }
      const node: Node | undefined = isMissing ? undefined : here?.children?.get(name);
      if (node?.file.type === "symlink" && (waiting.length > 0 || followsLast)) {
        if (++links > mostLinks) {
          return {
            names: way.map((step) => step.name),
            node: undefined,
            isBlocked: true,
            isElsewhere: false,
            isMounted: false,
          };
        }
        if (node.file.target.startsWith("/")) {
          way = [];
        }
        waiting.push(...elementsOf(node.file.target).reverse());
        continue;
      }
      isMissing ||= node === undefined;
      way.push({ name, node });
    }
    return {
      names: way.map(({ name }) => name),
      node: isMissing || isBlocked ? undefined : way.length === 0 ? this.#root : way.at(-1)?.node,
      isBlocked,
      isElsewhere: way.some(({ node }) => node?.mounted === "elsewhere"),
      isMounted: way.some(({ node }) => node?.mounted !== undefined),
    };
  }

  /** Entries that make no file count as well: each costs time. */
  async *#entries(reader: LayerReader) {
    let entry = 0;
    for await (const header of headersOf(reader)) {
      this.#refuseMany(entry);
      yield { header, entry };
      entry++;
    }
  }

  /** @param known entries or nodes of one tar, without the next */
  #refuseMany(known: number): void {
    if (known >= this.#limit) {
      throw tooMany(this.#limit);
    }
  }

  /** Adds to the count of files; counts those that are really there where that may be too many. */
  #added(made: number): void {
    this.#files += made;
    if (this.#files > this.#limit) {
      this.#files = countOf(this.#root);
      if (this.#files > this.#limit) {
        throw tooMany(this.#limit);
      }
    }
  }
}

function tooMany(limit: number): Error {
  return invalid(`more than ${limit} files: they are read once the container runs`);
}

/** The path that an archive's link points to, before links are followed; any other entry's own path. */
function linkedPath({ type, linkname }: Header, directory: string, name: string): string {
  switch (type) {
    case "link":
      return path.posix.join(directory, linkname ?? "");
    case "symlink":
      return path.posix.join(path.posix.dirname(name), linkname ?? "");
    default:
      return name;
  }
}

function isWithin(directory: string, name: string): boolean {
  return name === directory || name.startsWith(directory === "/" ? "/" : `${directory}/`);
}

/** Compares a file with what it was, as the agent does. */
function kindOf(
  file: IndexedFile,
  before: IndexedFile | null | undefined,
  touched: boolean,
): ChangedFile["kind"] {
  if (before === undefined) {
    return "none";
  }
  if (before === null) {
    return "added";
  }
  const isKept =
    file.type === before.type &&
    file.mode === before.mode &&
    file.uid === before.uid &&
    file.gid === before.gid &&
    (file.type === "directory" ||
      (!touched &&
        file.size === before.size &&
        file.mtime === before.mtime &&
        file.capability === before.capability &&
        file.device?.join() === before.device?.join()));
  return isKept ? "none" : "modified";
}
