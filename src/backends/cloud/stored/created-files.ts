/**
 * The files of a container that has not run yet: those of its image's layers, and what was put into it. Everything is
 * read where it lies, once for what there is, unless a layer's headers are known, and once for the contents, so that
 * nothing but names is held in memory.
 */
import path from "node:path";

import { conflict, forbidden, invalid, notFound, systemError } from "../../../common/errors.ts";
import { FileIndex, type WalkedFile } from "../../images/file-index.ts";
import type { MountedFiles } from "../../images/file-tree.ts";
import type { IndexedFile } from "../../images/indexed-file.ts";
import type { LayerReader } from "../../images/layer-headers.ts";
import { type NamedFile, tarOfFiles } from "../../images/files-tar.ts";
import type { StagedFiles } from "./staged-files.ts";

/** Parts of a container before its start; disposing of it lets go of the layers. */
export interface NewContainer extends AsyncDisposable {
  /** Readers of the image's layers, bottom first. */
  readonly layers: readonly LayerReader[];
  readonly mounts: readonly { readonly destination: string; readonly shows: MountedFiles }[];
  /** The root is read-only: only mounts can be written to. */
  readonly isReadOnly: boolean;
}

/** Directories that a container has whether its image has them or not. */
const givenDirectories: ReadonlySet<string> = new Set([
  "/dev",
  "/dev/pts",
  "/dev/shm",
  "/etc",
  "/proc",
  "/sys",
]);

/** A path's metadata, in the terms of the agent's `PathStat`. */
export interface CreatedPath {
  /** Last element of the path as it was asked for. */
  readonly name: string;
  readonly file: IndexedFile;
  /** Absolute path that a symlink leads to in the end; empty for anything else. */
  readonly linkTarget: string;
}

/** A change as `docker diff` shows it. */
export interface CreatedChange {
  readonly path: string;
  readonly kind: "added" | "modified";
}

/** Files of one container. */
export class CreatedFiles {
  readonly #containerId: string;
  readonly #index: FileIndex;
  readonly #isReadOnly: boolean;

  private constructor(containerId: string, index: FileIndex, isReadOnly: boolean) {
    this.#containerId = containerId;
    this.#index = index;
    this.#isReadOnly = isReadOnly;
  }

  /** @throws invalid: a layer or an archive cannot be read, or there are too many files */
  static async read(
    containerId: string,
    container: NewContainer,
    staged: StagedFiles,
  ): Promise<CreatedFiles> {
    const index = new FileIndex();
    for (const layer of container.layers) {
      await index.addLayer(layer);
    }
    for (const { destination, shows } of container.mounts) {
      index.addMount(destination, shows);
    }
    await staged.addTo(index, containerId);
    return new CreatedFiles(containerId, index, container.isReadOnly);
  }

  /**
   * Refuses a directory into which nothing can be unpacked. What is in volumes is not known from here, nor what every
   * container is given.
   *
   * @throws not-found; invalid: it is no directory; forbidden: it cannot be written to
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

  /** @throws not-found; system: something on the way is no directory */
  stat(asked: string): CreatedPath {
    return this.#pathOf(asked, this.#find(asked).file);
  }

  /**
   * Reads a path: its metadata, and a tar of it with what is beneath it, in which names begin with the path's
   * last element.
   *
   * @throws as {@link stat}; conflict: it is in a volume, which cannot be read from here
   */
  get(asked: string): { readonly stat: CreatedPath; readonly tar: AsyncIterable<Uint8Array> } {
    const found = this.#index.find(asked);
    const isPlain = found.kind === "file" && found.file.type !== "directory";
    if (found.kind !== "not-a-directory" && found.isElsewhere && !isPlain) {
      throw this.#isElsewhere(asked);
    }
    const { file } = this.#find(asked);
    const walk = (): Iterable<WalkedFile> =>
      this.#index.walk(asked, true, (mountPoint) => {
        throw this.#isElsewhere(mountPoint);
      });
    for (const _ of walk()) {
      // Refuses before the first byte.
    }
    return {
      stat: this.#pathOf(asked, file),
      tar: tarOfFiles(namedFrom(baseOf(asked), walk()), this.#index),
    };
  }

  /** The whole file system as a tar, mount points empty. */
  whole(): AsyncIterable<Uint8Array> {
    return tarOfFiles(wholeOf(this.#index), this.#index);
  }

  /** The files that were put into the container, as a layer over its image, a tar. */
  layer(): AsyncIterable<Uint8Array> {
    return tarOfFiles(layerOf(this.#index), this.#index);
  }

  /** The files that were put into the container, and the directories in which something was. */
  *changes(): Generator<CreatedChange, void> {
    for (const { path: changed, kind } of this.#index.changes(false)) {
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

function* namedFrom(top: string, files: Iterable<WalkedFile>): Generator<NamedFile> {
  for (const { path: below, file } of files) {
    yield { name: tarName(below === "" ? top : `${top === "/" ? "" : top}/${below}`, file), file };
  }
}

function* wholeOf(index: FileIndex): Generator<NamedFile> {
  const nothingRefused = (): never => {
    throw new TypeError("mount points are not entered");
  };
  for (const { path: below, file } of index.walk("/", false, nothingRefused)) {
    if (below !== "") {
      yield { name: tarName(below, file), file };
    }
  }
}

function* layerOf(index: FileIndex): Generator<NamedFile> {
  for (const { path: changed, file } of index.changes(true)) {
    // No layer can have a file of such a name.
    if (!path.posix.basename(changed).startsWith(".wh.")) {
      yield { name: tarName(changed.slice(1), file), file };
    }
  }
}

/** Name of a file in a tar: a directory's has a slash at its end. */
function tarName(name: string, { type }: IndexedFile): string {
  return type === "directory" && !name.endsWith("/") ? `${name}/` : name;
}

/** The last element of a path as Docker takes it, which tells `/dir/.` from `/dir`. */
function baseOf(asked: string): string {
  const clean = path.posix.resolve("/", asked);
  if (path.posix.basename(asked) === ".") {
    return ".";
  }
  return clean === "/" ? "/" : path.posix.basename(clean);
}
