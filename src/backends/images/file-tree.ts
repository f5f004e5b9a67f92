/** The directories of a file index. */
import { type StepPace, Steps } from "../concurrency/step-pace.ts";
import { weightOf } from "./file-budget.ts";
import { type IndexedFile, implied, textOf } from "./indexed-file.ts";

/** Files of a step: a few milliseconds of work. */
const stepFiles = 1_000;

/** Steps of looks at files, and at names of images. */
export const fileSteps = new Steps(stepFiles);

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
export async function lay(
  below: Node,
  above: Node,
  hidden: ReadonlyMap<Node, Hidden>,
  pace: StepPace,
): Promise<void> {
  const waiting: (readonly [below: Node, above: Node])[] = [[below, above]];
  for (let pair = waiting.pop(); pair !== undefined; pair = waiting.pop()) {
    await layOne(pair[0], pair[1], hidden.get(pair[1]), waiting, pace);
  }
}

/** @param waiting receives the directories that both have */
async function layOne(
  below: Node,
  above: Node,
  gone: Hidden | undefined,
  waiting: (readonly [below: Node, above: Node])[],
  pace: StepPace,
): Promise<void> {
  if (gone?.all === true) {
    below.children = undefined;
  }
  for (const name of gone?.names ?? []) {
    await pace.spend(1);
    below.children?.delete(name);
  }
  if (above.file !== implied) {
    below.file = above.file;
  }
  for (const [name, node] of above.children ?? []) {
    await pace.spend(1);
    const there = below.children?.get(name);
    if (there?.file.type === "directory" && node.file.type === "directory") {
      waiting.push([there, node]);
    } else {
      below.children ??= new Map();
      below.children.set(name, node);
    }
  }
}

/** The files that a tree counts as, by {@link weightOf}. */
export async function countOf(root: Node, pace: StepPace): Promise<number> {
  let count = 0;
  const waiting = [{ node: root, characters: 0 }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { node, characters } = next;
    count += weightOf(characters + textOf(node.file));
    for (const [name, child] of node.children ?? []) {
      await pace.spend(1);
      waiting.push({ node: child, characters: characters + 1 + name.length });
    }
  }
  return count;
}

type Entry = readonly [name: string, node: Node];

/** The entries of a directory, sorted by name. */
export async function sorted(
  children: ReadonlyMap<string, Node> | undefined,
  pace: StepPace,
): Promise<readonly Entry[]> {
  let runs: Entry[][] = [];
  for (const entry of children ?? []) {
    const run = runs.at(-1);
    if (run === undefined || run.length === stepFiles) {
      await pace.spend(stepFiles);
      runs.push([entry]);
    } else {
      run.push(entry);
    }
  }
  for (const run of runs) {
    await pace.spend(run.length);
    run.sort(([one], [other]) => (one < other ? -1 : 1));
  }
  while (runs.length > 1) {
    const merged: Entry[][] = [];
    for (let at = 0; at < runs.length; at += 2) {
      merged.push(await mergedOf(runs[at] ?? [], runs[at + 1] ?? [], pace));
    }
    runs = merged;
  }
  return runs[0] ?? [];
}

/** The entries of two sorted runs, sorted. */
async function mergedOf(ones: readonly Entry[], others: readonly Entry[], pace: StepPace): Promise<Entry[]> {
  const merged: Entry[] = [];
  let [at, atOther] = [0, 0];
  for (;;) {
    const [one, other] = [ones[at], others[atOther]];
    if (one !== undefined && (other === undefined || one[0] < other[0])) {
      merged.push(one);
      at++;
    } else if (other !== undefined) {
      merged.push(other);
      atOther++;
    } else {
      return merged;
    }
    if (merged.length % stepFiles === 0) {
      await pace.spend(stepFiles);
    }
  }
}
