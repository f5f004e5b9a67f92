/**
 * The files that a container would see at its first start: those of its image's layers, bottom first, with whiteouts
 * applied, and those of archives unpacked on top. Names and metadata are kept in memory, at most {@link mostFiles};
 * each file records where its content is.
 */
import path from "node:path";

import type { Header } from "tar-stream";

import { invalid } from "../../common/errors.ts";
import {
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
  fileSteps,
} from "./file-tree.ts";
import { FileBudget, weightOf } from "./file-budget.ts";
import { StepPace } from "../concurrency/step-pace.ts";
import { cleanPath, fileOf, type IndexedFile, implied, textOf } from "./indexed-file.ts";
import { costOf, headersOf, type LayerReader } from "./layer-headers.ts";
import { entriesIn, type TarEntry } from "./tar-reader.ts";

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
 * Directories implied by other paths count too, and a long path counts as several files.
 */
const mostFiles = 1_000_000;
/** The files of all indexes together. */
export const allFiles = new FileBudget(2 * mostFiles);
/** Path elements that cost as much time as a file. */
const elementsPerFile = 64;
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

/** A directory and its absolute path, with links resolved. */
interface MadeDirectory {
  readonly node: Node;
  readonly path: string;
}

/** Options of an index. */
export interface FileIndexOptions {
  /** Ends the reading of tars and walks, with its reason; default: never. */
  readonly signal?: AbortSignal;
  /** The most files, and of one tar; default: {@link mostFiles}. */
  readonly limit?: number;
  /** Default: that of all indexes. */
  readonly budget?: FileBudget;
}

/** A file of a walk. */
interface Step {
  readonly path: string;
  readonly node: Node;
  /** Directories between the start of the walk and the file. */
  readonly depth: number;
}

/** The names of a file system. Disposing frees their room in the budget. */
export class FileIndex implements Disposable {
  readonly #signal: AbortSignal;
  readonly #pace: StepPace;
  readonly #limit: number;
  readonly #budget: FileBudget;
  readonly #root: Node = { file: implied };
  readonly #sources: (() => AsyncIterable<Uint8Array>)[] = [];
  /** Absolute paths of mount points whose files are elsewhere. */
  readonly #elsewhere: string[] = [];
  /** Files made, by {@link weightOf}, including replaced ones; the budget counts them as held. */
  #files = 0;
  /** Path elements that were followed. */
  #followed = 0;

  constructor({
    signal = new AbortController().signal,
    limit = mostFiles,
    budget = allFiles,
  }: FileIndexOptions = {}) {
    this.#signal = signal;
    this.#pace = new StepPace(fileSteps, signal);
    this.#limit = limit;
    this.#budget = budget;
  }

  [Symbol.dispose](): void {
    this.#budget.give(this.#files);
    this.#files = 0;
  }

  /** The entries of a source, a tar, from its start. @throws as {@link entriesIn} */
  entriesOf(source: number): AsyncGenerator<TarEntry> {
    const open = this.#sources[source];
    if (open === undefined) {
      throw new RangeError(`there is no source ${source}`);
    }
    return entriesIn(open(), () => this.#signal.throwIfAborted());
  }

  /**
   * Adds a layer on top.
   *
   * @param reader its headers are read now, its contents on demand
   * @throws invalid: too many files, or a path that is too long; unavailable: no room for them among those of all
   *   indexes; errors of reading; the signal's reason
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
    const before = this.#files;
    for await (const { header, entry } of this.#entries(reader)) {
      const count = (): void => this.#count(costOf(header), before);
      const elements = elementsOf(cleanPath(header.name));
      this.#followed += elements.length;
      const base = elements.pop();
      if (base === undefined) {
        layer.file = fileOf(header, source, entry);
        continue;
      }
      const directory = makeDirectory(layer, elements, count);
      if (base === opaqueWhiteout) {
        hiddenBy(directory).all = true;
      } else if (base.startsWith(whiteout)) {
        count(); // Until the layer lies on the others its name takes room as well.
        hiddenBy(directory).names.push(base.slice(whiteout.length));
      } else {
        const linked = header.type === "link" ? elementsOf(cleanPath(header.linkname ?? "")) : undefined;
        const file =
          (linked && (nodeAt(layer, linked) ?? nodeAt(this.#root, linked))?.file) ??
          fileOf(header, source, entry);
        put(directory, base, file, count);
      }
    }
    await lay(this.#root, layer, hidden, this.#pace);
    await this.#refuseMany();
  }

  /**
   * Unpacks an archive into a directory, as the agent will at the container's start: it stops at the first entry that
   * cannot be unpacked. The agent will report the reason.
   *
   * @param ownerOf called if the directory exists
   * @returns false if the directory does not exist
   * @throws as {@link addLayer}
   */
  async addArchive(
    directory: string,
    reader: LayerReader,
    ownerOf?: () => Promise<FileOwner | undefined>,
  ): Promise<boolean> {
    const followed = this.#followed;
    const into = this.#follow(directory, true);
    await this.#pace.spend(this.#costSince(followed));
    if (into.node?.file.type !== "directory") {
      return false;
    }
    const source = this.#sources.push(() => reader.open()) - 1;
    const owner = await ownerOf?.();
    const top = `/${into.names.join("/")}`;
    const before = this.#files;
    for await (const { header, entry } of this.#entries(reader)) {
      const name = path.posix.join(top, header.name);
      if (!isWithin(top, name) || !isWithin(top, linkedPath(header, top, name))) {
        break;
      }
      const elements = elementsOf(cleanPath(name));
      const base = elements.pop();
      if (base === undefined || elements.length < into.names.length) {
        continue; // The directory itself is unchanged.
      }
      const parent = this.#makeDirectory(elements, putOver, before);
      const file =
        header.type === "link"
          ? this.#follow(linkedPath(header, top, name), false).node?.file
          : { ...fileOf(header, source, entry), ...owner };
      if (parent === undefined || file === undefined) {
        break;
      }
      const characters = parent.path.length + base.length + textOf(file);
      putOver(parent.node, base, file, () => this.#count(weightOf(characters), before));
    }
    await this.#refuseMany();
    return true;
  }

  /**
   * Adds a directory and its missing parents; does nothing if a file is in the way.
   *
   * @throws invalid: too many files, or a path that is too long
   */
  async addDirectory(directory: string): Promise<void> {
    this.#makeDirectory(elementsOf(cleanPath(directory)), putOver, this.#files);
    await this.#refuseMany();
  }

  /**
   * Makes a directory a mount point; creates it if missing, as a runtime does, which does not count as a change.
   *
   * @throws invalid: too many files, or a path that is too long
   */
  async addMount(directory: string, mounted: MountedFiles): Promise<void> {
    const made = this.#makeDirectory(elementsOf(cleanPath(directory)), put, this.#files);
    await this.#refuseMany();
    if (made === undefined) {
      return;
    }
    const { node, path: place } = made;
    node.mounted = mounted;
    node.children = mounted === "image" ? node.children : undefined;
    if (mounted === "elsewhere") {
      this.#elsewhere.push(place);
    }
  }

  /** The first mount point at or beneath a path whose files are elsewhere, as an absolute path. */
  elsewhereIn(wanted: string): string | undefined {
    const start = `/${this.#follow(wanted, asksDirectory(wanted)).names.join("/")}`;
    return this.#elsewhere
      .filter(
        (place) => isWithin(start, place) && nodeAt(this.#root, elementsOf(place))?.mounted === "elsewhere",
      )
      .sort((one, other) => (one < other ? -1 : 1))[0];
  }

  /**
   * Looks up a path; links never lead out of the root. The last element is only followed if a slash or `/.` comes after
   * it.
   */
  find(wanted: string): Found {
    const { node, isBlocked, isElsewhere, isMounted } = this.#follow(wanted, asksDirectory(wanted));
    if (isBlocked || (asksDirectory(wanted) && node !== undefined && node.file.type !== "directory")) {
      return { kind: "not-a-directory" };
    }
    return node === undefined
      ? { kind: "missing", isElsewhere }
      : { kind: "file", file: node.file, isElsewhere, isMounted };
  }

  /** {@link find} of one of many paths, in turns of the event loop. @throws the signal's reason */
  async findInTurn(wanted: string): Promise<Found> {
    const followed = this.#followed;
    const found = this.find(wanted);
    await this.#pace.spend(1 + this.#costSince(followed));
    return found;
  }

  /** Absolute path that a symlink resolves to, following links as far as they exist. */
  targetOf(link: string): string {
    return `/${this.#follow(link, true).names.join("/")}`;
  }

  /**
   * A file and everything beneath it, parents before children, sorted by name.
   *
   * @param entersMounts false: mount points are shown as empty
   * @throws the signal's reason
   */
  async *walk(wanted: string, entersMounts: boolean): AsyncGenerator<WalkedFile, void> {
    const { node } = this.#follow(wanted, asksDirectory(wanted));
    if (node === undefined) {
      return;
    }
    yield { path: "", file: node.file };
    const enters = ({ mounted }: Node): boolean => mounted === undefined || entersMounts;
    if (enters(node)) {
      for await (const { path: below, node: here } of this.#below(node, enters)) {
        yield { path: below, file: here.file };
      }
    }
  }

  /**
   * The files that archives have changed, each after its parent directories. Files in mount points are excluded.
   *
   * @param touched includes files that an archive contains but that are identical to the image's
   * @throws the signal's reason
   */
  async *changes(touched: boolean): AsyncGenerator<ChangedFile, void> {
    /** Parents of the file at hand that are not yielded yet. */
    let parents: { readonly change: ChangedFile; readonly depth: number }[] = [];
    const enters = ({ mounted }: Node): boolean => mounted === undefined;
    for await (const { path: below, node, depth } of this.#below(this.#root, enters)) {
      while ((parents.at(-1)?.depth ?? -1) >= depth) {
        parents.pop();
      }
      const { file, before } = node;
      const change: ChangedFile = { path: `/${below}`, file, kind: kindOf(file, before, touched) };
      if (change.kind === "none") {
        parents.push({ change, depth });
        continue;
      }
      for (const parent of parents) {
        yield parent.change;
      }
      parents = [];
      yield change;
    }
  }

  /** Everything beneath a node, parents before children, sorted by name. @throws the signal's reason */
  async *#below(start: Node, enters: (node: Node) => boolean): AsyncGenerator<Step, void> {
    const entriesOf = async ({ children }: Node) => [...(await sorted(children, this.#pace))].reverse();
    const levels = [{ prefix: "", left: await entriesOf(start) }];
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const next = level.left.pop();
      if (next === undefined) {
        levels.pop();
        continue;
      }
      const [name, node] = next;
      const at = `${level.prefix}${name}`;
      await this.#pace.spend(weightOf(at.length));
      yield { path: at, node, depth: levels.length };
      if (node.children !== undefined && enters(node)) {
        levels.push({ prefix: `${at}/`, left: await entriesOf(node) });
      }
    }
  }

  /**
   * Creates the missing directories of a path, following links; undefined if something in the way is not a directory.
   *
   * @param before files at the beginning of the tar
   * @throws invalid: too many files, or a path that is too long with its links resolved; unavailable
   */
  #makeDirectory(elements: readonly string[], make: typeof put, before: number): MadeDirectory | undefined {
    const { names, isBlocked, node } = this.#follow(elements.join("/"), true);
    if (isBlocked) {
      return undefined;
    }
    const place = cleanPath(names.join("/"));
    const weight = weightOf(place.length);
    let at = node ?? this.#root;
    for (const name of node === undefined ? names : []) {
      at = at.children?.get(name) ?? make(at, name, implied, () => this.#count(weight, before));
    }
    return at.file.type === "directory" ? { node: at, path: place } : undefined;
  }

  /** @param followsLast whether to follow the last element too */
  #follow(wanted: string, followsLast: boolean): Place {
    const waiting = elementsOf(path.posix.join("/", wanted)).reverse();
    let way: { readonly name: string; readonly node: Node | undefined }[] = [];
    let links = 0;
    let isMissing = false;
    let isBlocked = false;
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      this.#followed++;
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
    for await (const header of headersOf(reader, () => this.#signal.throwIfAborted())) {
      if (cost >= this.#limit) {
        throw tooMany(this.#limit);
      }
      const followed = this.#followed;
      yield { header, entry };
      entry++;
      const spent = costOf(header) + this.#costSince(followed);
      cost += spent;
      await this.#pace.spend(spent);
    }
  }

  /** The files that the path elements followed since then cost as much time as. */
  #costSince(followed: number): number {
    return Math.floor((this.#followed - followed) / elementsPerFile);
  }

  /**
   * Counts a new node.
   *
   * @param before files at the beginning of the tar
   * @throws invalid: too many in one tar; unavailable: too many in all indexes
   */
  #count(weight: number, before: number): void {
    if (this.#files - before >= this.#limit) {
      throw tooMany(this.#limit);
    }
    this.#budget.take(weight);
    this.#files += weight;
  }

  /** If there seem to be too many files, counts those that actually exist. @throws invalid: they are too many */
  async #refuseMany(): Promise<void> {
    if (this.#files > this.#limit) {
      const files = await countOf(this.#root, this.#pace);
      this.#budget.give(this.#files - files);
      this.#files = files;
      if (files > this.#limit) {
        throw tooMany(this.#limit);
      }
    }
  }
}

/** Whether a path demands a directory, so that its last element is followed. */
function asksDirectory(wanted: string): boolean {
  return /\/\.?$/.test(wanted) || wanted === ".";
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
