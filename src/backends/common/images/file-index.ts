/**
 * The files that a container would find which has not run yet: those of its image's layers, bottom first, whiteouts
 * applied, and of archives that were unpacked over them. Names and metadata are in memory, at most
 * {@link mostFiles}; contents stay where they are, and each file says where that is.
 */
import path from "node:path";

import type { Header } from "tar-stream";

import { invalid } from "../../../common/errors.ts";
import { capabilityRecord } from "./tar-entries.ts";
import { entriesIn } from "./tar-reader.ts";

/** A file, directory or link. One with several names is one object. */
export interface IndexedFile {
  readonly type: "file" | "directory" | "symlink" | "fifo" | "character-device" | "block-device" | "other";
  /** Bytes; of a symlink those of its target. */
  readonly size: number;
  /** Permission bits, set-user-ID, set-group-ID and sticky among them, as in a tar. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Unix seconds. */
  readonly mtime: number;
  /** Where a symlink points, as it is written. */
  readonly target: string;
  /** Of a device: major and minor number. */
  readonly device?: readonly [number, number];
  /** Value of `security.capability`. */
  readonly capability?: string;
  /** Which of the tars has its content, in the order in which they were added, and in which of its entries. */
  readonly source: number;
  readonly entry: number;
}

/** What a path turned out to be. */
export type Found =
  | { readonly kind: "file"; readonly file: IndexedFile; readonly isElsewhere: boolean }
  | { readonly kind: "missing"; readonly isElsewhere: boolean }
  /** An element that something lies beneath, or a slash follows, is none. */
  | { readonly kind: "not-a-directory" };

/** A file with its path. */
export interface WalkedFile {
  /** Relative to where the walk began; empty: that itself. */
  readonly path: string;
  readonly file: IndexedFile;
}

/** What archives have made different from the image. */
export interface ChangedFile {
  /** Absolute. */
  readonly path: string;
  readonly file: IndexedFile;
  /** `none`: a directory in which something differs. */
  readonly kind: "added" | "modified" | "none";
}

/** What a mount point shows: what is there beneath it, nothing, or files of which nothing is known here. */
export type MountedFiles = "image" | "nothing" | "elsewhere";

/** Who the entries of an archive belong to in place of who it says. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Of one image with everything put over it, and of one tar; about 300 bytes each, and their names. */
export const mostFiles = 1_000_000;
/** As Linux does. */
const mostLinks = 40;
const longestPath = 4096;
const whiteout = ".wh.";
const opaqueWhiteout = ".wh..wh..opq";
/** A directory that no tar names. */
const implied: IndexedFile = {
  type: "directory",
  size: 0,
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  target: "",
  source: -1,
  entry: -1,
};

interface Node {
  file: IndexedFile;
  /** Of directories. */
  children?: Map<string, Node> | undefined;
  /** What the image has there, where an archive has put something else; null: nothing. */
  before?: IndexedFile | null;
  mounted?: MountedFiles;
}

/** What of the layers beneath a directory of a layer hides. */
interface Hidden {
  all: boolean;
  readonly names: string[];
}

/** Where a path leads. */
interface Place {
  /** Elements, links followed. */
  readonly names: string[];
  readonly node: Node | undefined;
  /** It leads through something that is no directory. */
  readonly isBlocked: boolean;
  /** It is in a mount point whose files are elsewhere. */
  readonly isElsewhere: boolean;
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
   * @param open reads it from its start, now and when contents are asked for
   * @throws invalid: too many files, a path that is too long; what reading it throws
   */
  async addLayer(open: () => AsyncIterable<Uint8Array>): Promise<void> {
    const source = this.#sources.push(open) - 1;
    const layer: Node = { file: implied };
    const hidden = new Map<Node, Hidden>();
    const hiddenBy = (directory: Node): Hidden => {
      const known = hidden.get(directory) ?? { all: false, names: [] };
      hidden.set(directory, known);
      return known;
    };
    let entry = -1;
    for await (const { header } of entriesIn(open())) {
      entry++;
      this.#refuseMany(entry);
      const elements = elementsOf(cleanPath(header.name));
      const base = elements.pop();
      if (base === undefined) {
        layer.file = fileOf(header, source, entry);
        continue;
      }
      const directory = makeDirectory(layer, elements);
      if (base === opaqueWhiteout) {
        hiddenBy(directory).all = true;
      } else if (base.startsWith(whiteout)) {
        hiddenBy(directory).names.push(base.slice(whiteout.length));
      } else {
        const linked = header.type === "link" ? elementsOf(cleanPath(header.linkname ?? "")) : undefined;
        const file =
          (linked && (nodeAt(layer, linked) ?? nodeAt(this.#root, linked))?.file) ??
          fileOf(header, source, entry);
        put(directory, base, file);
      }
    }
    lay(this.#root, layer, hidden);
    this.#added(entry + 1);
  }

  /**
   * Unpacks an archive into a directory, as the agent does when the container starts: from an entry on that cannot be
   * unpacked it leaves everything out. The agent will say why.
   *
   * @throws as {@link addLayer}
   */
  async addArchive(
    directory: string,
    open: () => AsyncIterable<Uint8Array>,
    owner?: FileOwner,
  ): Promise<void> {
    const source = this.#sources.push(open) - 1;
    const into = this.#follow(directory, true);
    if (into.node?.file.type !== "directory") {
      return;
    }
    const top = `/${into.names.join("/")}`;
    let entry = -1;
    for await (const { header } of entriesIn(open())) {
      entry++;
      this.#refuseMany(entry);
      const name = path.posix.join(top, header.name);
      if (!isWithin(top, name) || !isWithin(top, linkedPath(header, top, name))) {
        break;
      }
      const elements = elementsOf(cleanPath(name));
      const base = elements.pop();
      if (base === undefined || elements.length < into.names.length) {
        continue; // The directory itself stays as it is.
      }
      const parent = this.#makeDirectory(elements, putOver);
      const file =
        header.type === "link"
          ? this.#follow(linkedPath(header, top, name), false).node?.file
          : { ...fileOf(header, source, entry), ...owner };
      if (parent === undefined || file === undefined) {
        break;
      }
      putOver(parent, base, file);
    }
    this.#added(entry + 1);
  }

  /** Makes a directory a mount point; one that is missing is made, as a runtime does, which counts as no change. */
  addMount(directory: string, mounted: MountedFiles): void {
    const node = this.#makeDirectory(elementsOf(cleanPath(directory)), put);
    if (node !== undefined) {
      node.mounted = mounted;
      node.children = mounted === "image" ? node.children : undefined;
    }
  }

  /**
   * What lies at a path, inside the root wherever links lead. The last element is followed only where a slash or `/.`
   * comes after it.
   */
  find(wanted: string): Found {
    const asksDirectory = /\/\.?$/.test(wanted) || wanted === ".";
    const { node, isBlocked, isElsewhere } = this.#follow(wanted, asksDirectory);
    if (isBlocked || (asksDirectory && node !== undefined && node.file.type !== "directory")) {
      return { kind: "not-a-directory" };
    }
    return node === undefined
      ? { kind: "missing", isElsewhere }
      : { kind: "file", file: node.file, isElsewhere };
  }

  /** Where a symlink leads in the end, absolute, as far as there is something. */
  targetOf(link: string): string {
    return `/${this.#follow(link, true).names.join("/")}`;
  }

  /**
   * A file and what is beneath it, directories before what is in them, in the order of their names.
   *
   * @param entersMounts where not, a mount point shows empty
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
   * What archives have changed, directories before what is in them. What is in mount points does not count.
   *
   * @param touched a file counts that an archive has brought, even where nothing tells it from the image's
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

  /** Where links lead to a directory that exists; what is missing of it is made. Undefined: something is in the way. */
  #makeDirectory(elements: readonly string[], make: typeof put): Node | undefined {
    let place = this.#follow(elements.join("/"), true);
    if (place.isBlocked) {
      return undefined;
    }
    if (place.node === undefined) {
      let at = this.#root;
      for (const name of place.names) {
        at = at.children?.get(name) ?? make(at, name, implied);
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
    };
  }

  #refuseMany(entries: number): void {
    if (entries >= this.#limit) {
      throw tooMany(this.#limit);
    }
  }

  /** Counts what may be there now, and what really is where that may be too much. */
  #added(entries: number): void {
    this.#files += entries;
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

function elementsOf(name: string): string[] {
  return name.split("/").filter((element) => element !== "" && element !== ".");
}

/** Where the link of an archive points, before links are followed; what is no link points to itself. */
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

/** @throws invalid: longer than a path can be */
function cleanPath(name: string): string {
  if (Buffer.byteLength(name) > longestPath) {
    throw invalid(`archive/tar: a path of more than ${longestPath} bytes`);
  }
  return path.posix.resolve("/", name);
}

function nodeAt(root: Node, elements: readonly string[]): Node | undefined {
  let at: Node | undefined = root;
  for (const name of elements) {
    at = at?.children?.get(name);
  }
  return at;
}

/** The directory of a layer at a path; what of it the layer does not name is made. */
function makeDirectory(root: Node, elements: readonly string[]): Node {
  let at = root;
  for (const name of elements) {
    const there = at.children?.get(name);
    at = there?.file.type === "directory" ? there : put(at, name, implied);
  }
  return at;
}

/** Puts a file where it replaces everything but a directory that stays one. */
function put(directory: Node, name: string, file: IndexedFile): Node {
  const there = directory.children?.get(name);
  if (there?.file.type === "directory" && file.type === "directory") {
    there.file = file;
    return there;
  }
  const node: Node = { file };
  directory.children ??= new Map();
  directory.children.set(name, node);
  return node;
}

/** As {@link put}, and remembers what the image has there. */
function putOver(directory: Node, name: string, file: IndexedFile): Node {
  const there = directory.children?.get(name);
  const before = there === undefined ? null : there.before === undefined ? there.file : there.before;
  const node = put(directory, name, file);
  node.before = before;
  return node;
}

/** Lays a layer's tree over another; nodes of it are used. */
function lay(below: Node, above: Node, hidden: ReadonlyMap<Node, Hidden>): void {
  const gone = hidden.get(above);
  if (gone?.all === true) {
    below.children = undefined;
  }
  for (const name of gone?.names ?? []) {
    below.children?.delete(name);
  }
  if (above.file !== implied) {
    below.file = above.file;
  }
  for (const [name, node] of above.children ?? []) {
    const there = below.children?.get(name);
    if (there?.file.type === "directory" && node.file.type === "directory") {
      lay(there, node, hidden);
    } else {
      below.children ??= new Map();
      below.children.set(name, node);
    }
  }
}

function countOf(root: Node): number {
  let count = 0;
  const waiting = [root];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    count++;
    for (const child of node.children?.values() ?? []) {
      waiting.push(child);
    }
  }
  return count;
}

function sorted(children: ReadonlyMap<string, Node> | undefined): [string, Node][] {
  return [...(children ?? [])].sort(([one], [other]) => (one < other ? -1 : 1));
}

/** As the agent compares a file with what it was. */
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

function fileOf(header: Header, source: number, entry: number): IndexedFile {
  const { type, mode = 0, uid = 0, gid = 0, mtime, devmajor = 0, devminor = 0 } = header;
  const pax = header.pax as Readonly<Record<string, string>> | null | undefined;
  const capability = pax?.[capabilityRecord];
  const file = {
    size: 0,
    mode: mode & 0o7777,
    uid: numberOf(pax?.["uid"], uid),
    gid: numberOf(pax?.["gid"], gid),
    mtime: numberOf(pax?.["mtime"], (mtime?.getTime() ?? 0) / 1000),
    target: "",
    source,
    entry,
  };
  switch (type) {
    case "directory":
    case "fifo":
      return { ...file, type };
    case "character-device":
    case "block-device":
      return { ...file, type, device: [devmajor, devminor] };
    case "symlink": {
      const target = header.linkname ?? "";
      cleanPath(target);
      return { ...file, type, target, size: Buffer.byteLength(target) };
    }
    case "link": // Its file is not there.
      return { ...file, type: "file" };
    case "file":
    case "contiguous-file": {
      // What the reader could not decode is not passed on as something else.
      const isWhole = capability !== undefined && !capability.includes("\ufffd");
      return { ...file, type: "file", size: header.size ?? 0, ...(isWhole ? { capability } : {}) };
    }
    default:
      return { ...file, type: "other" };
  }
}

/** A number that a PAX record tells, whole. */
function numberOf(record: string | undefined, otherwise: number): number {
  const number = record === undefined ? Number.NaN : Number(record);
  return Math.floor(Number.isFinite(number) ? number : otherwise);
}
