/** The directories of a file index. */
import { type IndexedFile, implied } from "./indexed-file.ts";

/** The files in a mount point: the image's beneath it, none, or unknown ones elsewhere. */
export type MountedFiles = "image" | "nothing" | "elsewhere";

/** A file as a node of the tree. */
export interface Node {
  file: IndexedFile;
  /** Entries of a directory, by name. */
  children?: Map<string, Node> | undefined;
  /** The image's file at this place, if an archive has replaced it; null if the image has none. */
  before?: IndexedFile | null;
  mounted?: MountedFiles;
}

/** Files of lower layers hidden by a layer's whiteouts in one directory. */
export interface Hidden {
  all: boolean;
  readonly names: string[];
}

/** The elements of a path. */
export function elementsOf(name: string): string[] {
  return name.split("/").filter((element) => element !== "" && element !== ".");
}

/** The node at a path, without following links; undefined if there is none. */
export function nodeAt(root: Node, elements: readonly string[]): Node | undefined {
  let at: Node | undefined = root;
  for (const name of elements) {
    at = at?.children?.get(name);
  }
  return at;
}

/** Called before each new node; may throw. */
export type CountNode = () => void;

/** The directory of a layer at a path; creates what the layer does not list. */
export function makeDirectory(root: Node, elements: readonly string[], count?: CountNode): Node {
  let at = root;
  for (const name of elements) {
    const there = at.children?.get(name);
    at = there?.file.type === "directory" ? there : put(at, name, implied, count);
  }
  return at;
}

/** Adds a file, replacing what is there, except that a directory remains if the new file is one too. */
export function put(directory: Node, name: string, file: IndexedFile, count?: CountNode): Node {
  const there = directory.children?.get(name);
  if (there?.file.type === "directory" && file.type === "directory") {
    there.file = file;
    return there;
  }
  count?.();
  const node: Node = { file };
  directory.children ??= new Map();
  directory.children.set(name, node);
  return node;
}

/** Like {@link put}, but remembers the image's file at this place. */
export function putOver(directory: Node, name: string, file: IndexedFile, count?: CountNode): Node {
  const there = directory.children?.get(name);
  const before = there === undefined ? null : there.before === undefined ? there.file : there.before;
  const node = put(directory, name, file, count);
  node.before = before;
  return node;
}

/** Puts a layer's tree on top of another one, reusing its nodes. */
export function lay(below: Node, above: Node, hidden: ReadonlyMap<Node, Hidden>): void {
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

/** The number of files in a tree. */
export function countOf(root: Node): number {
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

/** The entries of a directory, sorted by name. */
export function sorted(children: ReadonlyMap<string, Node> | undefined): [string, Node][] {
  return [...(children ?? [])].sort(([one], [other]) => (one < other ? -1 : 1));
}
