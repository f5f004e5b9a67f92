/**
 * The files of a container that has not run yet: its image's layers, and files copied into it. Everything is read in
 * place: once for the headers, unless they are cached, and once for the contents, so that only names are held in
 * memory.
 */
import path from "node:path";

import { conflict, forbidden, invalid, notFound, systemError } from "../../../common/errors.ts";
import { allFiles, FileIndex, type WalkedFile } from "../../images/file-index.ts";
import type { MountedFiles } from "../../images/file-tree.ts";
import type { IndexedFile } from "../../images/indexed-file.ts";
import type { LayerReader } from "../../images/layer-headers.ts";
import { Limiter } from "../../concurrency/limiter.ts";
import { type NamedFile, tarOfFiles } from "../../images/files-tar.ts";
import type { StagedFiles } from "./staged-files.ts";

/** The sources of a container's files before its start; disposing releases the layers. */
export interface NewContainer extends AsyncDisposable {
  /** Readers of the image's layers, bottom first. */
  readonly layers: readonly LayerReader[];
  readonly mounts: readonly { readonly destination: string; readonly shows: MountedFiles }[];
  /** True if the root is read-only, so that only mounts are writable. */
  readonly isReadOnly: boolean;
}

/** Reads at a time: one of each container, few of all. */
const reads = { ofOne: new Limiter(1), ofAll: new Limiter(8) };

/** Directories that every container has, even if its image does not. */
const givenDirectories: ReadonlySet<string> = new Set([
  "/dev",
  "/dev/pts",
  "/dev/shm",
  "/etc",
  "/proc",
  "/sys",
]);

/** A path's metadata, like the agent's `PathStat`. */
export interface CreatedPath {
  /** Last element of the requested path. */
  readonly name: string;
  readonly file: IndexedFile;
  /** Absolute path that a symlink resolves to; empty for anything else. */
  readonly linkTarget: string;
}

/** A change for `docker diff`. */
export interface CreatedChange {
  readonly path: string;
  readonly kind: "added" | "modified";
}

/** The files of one container. Disposing frees their memory for those of others. */
export class CreatedFiles implements Disposable {
  readonly #containerId: string;
  readonly #index: FileIndex;
  readonly #isReadOnly: boolean;

  private constructor(containerId: string, index: FileIndex, isReadOnly: boolean) {
    this.#containerId = containerId;
    this.#index = index;
    this.#isReadOnly = isReadOnly;
  }

  /**
   * @param signal ends the reading, also of what is got from the files later
   * @param budget of all indexes
   * @throws invalid: an unreadable layer or archive, or too many files; unavailable: too many in all containers that
   *   are read; the signal's reason
   */
  static async read(
    containerId: string,
    container: NewContainer,
    staged: Pick<StagedFiles, "addTo">,
    signal: AbortSignal,
    budget = allFiles,
  ): Promise<CreatedFiles> {
    using _one = await reads.ofOne.acquire(containerId, signal);
    using _few = await reads.ofAll.acquire("", signal);
    using resources = new DisposableStack();
    const index = resources.use(new FileIndex({ signal, budget }));
    for (const layer of container.layers) {
      await index.addLayer(layer);
    }
    for (const { destination, shows } of container.mounts) {
      await index.addMount(destination, shows);
    }
    await staged.addTo(index, containerId, signal);
    resources.move();
    return new CreatedFiles(containerId, index, container.isReadOnly);
  }

  [Symbol.dispose](): void {
    this.#index[Symbol.dispose]();
  }

  /**
   * Refuses a directory into which nothing can be unpacked. The content of volumes is unknown here.
   *
   * @throws not-found; invalid: not a directory; forbidden: not writable
   */
  refuseUnpacking(directory: string): void {
    const asked = path.posix.resolve("/", directory);
    const found = this.#index.find(`${asked}/`);
    if (found.kind === "not-a-directory") {
      throw invalid("extraction point is not a directory");
    }
    if (found.kind === "missing" && !found.isElsewhere && !givenDirectories.has(asked)) {
      throw notFound(`Could not find the file ${directory} in container ${this.#containerId}`);
    }
    if (this.#isReadOnly && found.kind === "file" && !found.isMounted) {
      throw forbidden("container rootfs is marked read-only");
    }
  }

  /** @throws not-found; system: an element of the path is not a directory */
  stat(asked: string): CreatedPath {
    return this.#pathOf(asked, this.#find(asked).file);
  }

  /**
   * Reads a path: its metadata, and a tar of it and everything beneath, with names that begin with the path's last
   * element.
   *
   * @throws as {@link stat}; conflict: it is in a volume, which cannot be read here
   */
  get(asked: string): { readonly stat: CreatedPath; readonly tar: AsyncIterable<Uint8Array> } {
    const found = this.#index.find(asked);
    const isPlain = found.kind === "file" && found.file.type !== "directory";
    if (found.kind !== "not-a-directory" && found.isElsewhere && !isPlain) {
      throw this.#isElsewhere(asked);
    }
    const { file } = this.#find(asked);
    const mountPoint = this.#index.elsewhereIn(asked);
    if (mountPoint !== undefined) {
      throw this.#isElsewhere(mountPoint);
    }
    return {
      stat: this.#pathOf(asked, file),
      tar: tarOfFiles(namedFrom(baseOf(asked), this.#index.walk(asked, true)), this.#index),
    };
  }

  /** A tar of the entries of paths alone, in this order and under these names; those that are missing are left out. */
  entries(paths: readonly string[]): AsyncIterable<Uint8Array> {
    return tarOfFiles(entriesOf(this.#index, paths), this.#index);
  }

  /** The whole file system as a tar, with empty mount points. */
  whole(): AsyncIterable<Uint8Array> {
    return tarOfFiles(wholeOf(this.#index), this.#index);
  }

  /** The files copied into the container, as a layer over its image. */
  layer(): AsyncIterable<Uint8Array> {
    return tarOfFiles(layerOf(this.#index), this.#index);
  }

  /** The files copied into the container, and their directories. */
  async *changes(): AsyncGenerator<CreatedChange, void> {
    for await (const { path: changed, kind } of this.#index.changes(false)) {
      yield { path: changed, kind: kind === "none" ? "modified" : kind };
    }
  }

  #find(asked: string): { readonly file: IndexedFile } {
    const found = this.#index.find(asked);
    switch (found.kind) {
      case "file":
        return found;
      case "not-a-directory":
        throw systemError(`lstat ${asked}: not a directory`);
      case "missing":
        throw notFound(`Could not find the file ${asked} in container ${this.#containerId}`);
    }
  }

  #pathOf(asked: string, file: IndexedFile): CreatedPath {
    return {
      name: baseOf(asked),
      file,
      linkTarget: file.type === "symlink" ? this.#index.targetOf(asked) : "",
    };
  }

  #isElsewhere(mountPoint: string): Error {
    return conflict(
      `${mountPoint} of container ${this.#containerId} is in a volume, which can be read once the container runs`,
    );
  }
}

async function* namedFrom(top: string, files: AsyncIterable<WalkedFile>): AsyncGenerator<NamedFile> {
  for await (const { path: below, file } of files) {
    yield { name: tarName(below === "" ? top : `${top === "/" ? "" : top}/${below}`, file), file };
  }
}

async function* entriesOf(index: FileIndex, paths: readonly string[]): AsyncGenerator<NamedFile> {
  for (const asked of paths) {
    const found = await index.findInTurn(asked);
    if (found.kind === "file") {
      yield { name: tarName(asked, found.file), file: { ...found.file, size: 0 } };
    }
  }
}

async function* wholeOf(index: FileIndex): AsyncGenerator<NamedFile> {
  for await (const { path: below, file } of index.walk("/", false)) {
    if (below !== "") {
      yield { name: tarName(below, file), file };
    }
  }
}

async function* layerOf(index: FileIndex): AsyncGenerator<NamedFile> {
  for await (const { path: changed, file } of index.changes(true)) {
    // No layer can have a file with such a name.
    if (!path.posix.basename(changed).startsWith(".wh.")) {
      yield { name: tarName(changed.slice(1), file), file };
    }
  }
}

/** Name of a file in a tar, with a trailing slash for directories. */
function tarName(name: string, { type }: IndexedFile): string {
  return type === "directory" && !name.endsWith("/") ? `${name}/` : name;
}

/** The last element of a path as in Docker, which distinguishes `/dir/.` from `/dir`. */
function baseOf(asked: string): string {
  const clean = path.posix.resolve("/", asked);
  if (path.posix.basename(asked) === ".") {
    return ".";
  }
  return clean === "/" ? "/" : path.posix.basename(clean);
}
