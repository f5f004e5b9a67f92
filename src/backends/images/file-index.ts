/**
 * The files that a container would see at its first start: those of its image's layers, bottom first, with whiteouts
 * applied, and those of archives unpacked on top. Names and metadata are kept in memory, at most {@link mostFiles};
 * each file records where its content is.
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
import { costOf, headersOf, type LayerReader } from "./layer-headers.ts";

/** The result of a lookup. */
export type Found =
  | {
      readonly kind: "file";
      readonly file: IndexedFile;
      readonly isElsewhere: boolean;
      /** True if it is a mount point or inside one. */
      readonly isMounted: boolean;
    }
  | { readonly kind: "missing"; readonly isElsewhere: boolean }
  /** A path element with something beneath it, or before a slash, is not a directory. */
  | { readonly kind: "not-a-directory" };

/** A file with its path. */
export interface WalkedFile {
  /** Path relative to the start of the walk; empty for the start itself. */
  readonly path: string;
  readonly file: IndexedFile;
}

/** A file in which archives differ from the image. */
export interface ChangedFile {
  /** Absolute. */
  readonly path: string;
  readonly file: IndexedFile;
  /** `none`: an unchanged directory with changes inside. */
  readonly kind: "added" | "modified" | "none";
}

/** Owner for an archive's entries, replacing the archive's own. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The most files of an image with everything on top of it, and of one tar; each takes about 300 bytes plus its name.
 * Directories implied by other paths count too, and a long name counts as several files.
 */
const mostFiles = 1_000_000;
/** The most links followed in one path, as in Linux. */
const mostLinks = 40;
const whiteout = ".wh.";
const opaqueWhiteout = ".wh..wh..opq";
/** The place that a path resolves to. */
interface Place {
  /** Path elements, with links resolved. */
  readonly names: string[];
  readonly node: Node | undefined;
  /** True if the path goes through something that is not a directory. */
  readonly isBlocked: boolean;
  /** True if it is in a mount point whose files are elsewhere. */
  readonly isElsewhere: boolean;
  readonly isMounted: boolean;
}

/** The names of a file system. */
export class FileIndex {
  readonly #limit: number;
  readonly #root: Node = { file: implied };
  readonly #sources: (() => AsyncIterable<Uint8Array>)[] = [];
  #files = 0;

  constructor(limit: number = mostFiles) {
    this.#limit = limit;
  }

  /** Opens a source, a tar, from its start. */
  open(source: number): AsyncIterable<Uint8Array> {
    const open = this.#sources[source];
    if (open === undefined) {
      throw new RangeError(`there is no source ${source}`);
    }
    return open();
  }

  /**
   * Adds a layer on top.
   *
   * @param reader its headers are read now, its contents on demand
   * @throws invalid: too many files, or a path that is too long; errors of reading
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
   * Unpacks an archive into a directory, as the agent will at the container's start: it stops at the first entry that
   * cannot be unpacked. The agent will report the reason.
   *
   * @returns false if the directory does not exist
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
        continue; // The directory itself is unchanged.
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
   * Adds a directory and its missing parents; does nothing if a file is in the way.
   *
   * @throws invalid: too many files, or a path that is too long
   */
  addDirectory(directory: string): void {
    let made = 0;
    this.#makeDirectory(elementsOf(cleanPath(directory)), putOver, () => this.#refuseMany(made++));
    this.#added(made);
  }

  /**
   * Makes a directory a mount point; creates it if missing, as a runtime does, which does not count as a change.
   *
   * @throws invalid: too many files, or a path that is too long
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
   * Looks up a path; links never lead out of the root. The last element is only followed if a slash or `/.` comes after
   * it.
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

  /** Absolute path that a symlink resolves to, following links as far as they exist. */
  targetOf(link: string): string {
    return `/${this.#follow(link, true).names.join("/")}`;
  }

  /**
   * A file and everything beneath it, parents before children, sorted by name.
   *
   * @param entersMounts false: mount points are shown as empty
   * @param refuse called for a mount point whose files are elsewhere; must throw
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
   * The files that archives have changed, each after its parent directories. Files in mount points are excluded.
   *
   * @param touched includes files that an archive contains but that are identical to the image's
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
   * Creates the missing directories of a path, following links; undefined if something in the way is not a directory.
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

  /** @param followsLast whether to follow the last element too */
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

  /** The entries of a layer; those that create no file count too, as each costs time. */
  async *#entries(reader: LayerReader) {
    let entry = 0;
    let cost = 0;
    for await (const header of headersOf(reader)) {
      this.#refuseMany(cost);
      yield { header, entry };
      entry++;
      cost += costOf(header);
    }
  }

  /** @param known entries or nodes of one tar so far */
  #refuseMany(known: number): void {
    if (known >= this.#limit) {
      throw tooMany(this.#limit);
    }
  }

  /** Adds to the count of files; if that seems too many, counts the files that actually exist. */
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

/** The path that an archive's link points to, before following links; for other entries their own path. */
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

/** Compares a file with its original, as the agent does. */
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
