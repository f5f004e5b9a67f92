/**
 * Finds images by name, digest or ID. The records are the state's; names and digests are indexed here. A name
 * belongs to one image at a time. This class alone changes image records, so check and change are one step.
 */
import { invalid, notFound } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../state/journal.ts";
import type { State } from "../state/state.ts";
import { hexOf } from "./digest.ts";
import {
  type AnyReference,
  canonicalString,
  familiarString,
  type NamedReference,
  parseAny,
  parseNamed,
  repositoryName,
  withDefaultTag,
  withDigest,
} from "./reference.ts";

/** Records to add or replace, IDs to remove, events to journal: one batch. */
export interface IndexChange {
  readonly put?: readonly ImageRecord[];
  readonly remove?: readonly string[];
  readonly events?: readonly NewEvent[];
}

/** The images of one backend by every way to name them. */
export class ImageIndex {
  readonly #state: State;
  /** Image IDs by full name (`docker.io/library/x:latest`) and digest reference (`docker.io/library/x@sha256:…`). */
  readonly #ids = new Map<string, string>();

  constructor(state: State) {
    this.#state = state;
    for (const record of state.images.values()) {
      this.#indexNames(record);
    }
  }

  /** Every image, in no order that means anything. */
  records(): readonly ImageRecord[] {
    return [...this.#state.images.values()];
  }

  /** The image of that full ID (`sha256:…`). */
  get(id: string): ImageRecord | undefined {
    return this.#state.images.get(id);
  }

  /** The image that has this name, or that was pulled by or with this digest. */
  named(reference: NamedReference): ImageRecord | undefined {
    const id = this.#ids.get(keyOf(reference));
    return id === undefined ? undefined : this.get(id);
  }

  /** The images that a repository's tags name, with these names, by name. */
  taggedAs(repository: NamedReference): { readonly record: ImageRecord; readonly name: string }[] {
    const wanted = repositoryName(repository);
    return this.records()
      .flatMap((record) => record.names.map((name) => ({ record, name })))
      .filter(({ name }) => repositoryName(parseNamed(name)) === wanted)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * The image that a user means by a name in any spelling, a digest reference, an ID or a prefix of one.
   *
   * @throws not-found; invalid: not a reference, or several IDs begin so
   */
  find(text: string): ImageRecord {
    const reference = parseAny(text);
    const record =
      reference.kind === "id"
        ? this.get(reference.id)
        : (this.named(reference.named) ?? this.#byPrefix(text));
    if (record === undefined) {
      throw noSuchImage(reference);
    }
    return record;
  }

  /** The image that this one was committed on, as long as it is there. */
  parentOf(record: ImageRecord): ImageRecord | undefined {
    return record.parentId === "" ? undefined : this.get(record.parentId);
  }

  /** IDs of the images that others were committed on. */
  parentIds(): ReadonlySet<string> {
    return new Set(this.records().map((record) => record.parentId));
  }

  /** Commits a change; memory shows it at once, the promise resolves when it is durable. */
  commit(change: IndexChange): Promise<void> {
    return this.#state.commit((batch) => {
      for (const id of change.remove ?? []) {
        this.#forgetNames(id);
        batch.images.delete(id);
      }
      // All old names go first: a name may move from one of these records to another.
      for (const record of change.put ?? []) {
        this.#forgetNames(record.id);
      }
      for (const record of change.put ?? []) {
        this.#indexNames(record);
        batch.images.put(record);
      }
      for (const event of change.events ?? []) {
        batch.event(event);
      }
    });
  }

  /**
   * The records that change when an image takes names and digest references: the image's own, and those of images that
   * had them.
   */
  withNames(record: ImageRecord, names: readonly string[], digests: readonly string[]): ImageRecord[] {
    const changed = new Map<string, ImageRecord>();
    for (const key of [...names, ...digests]) {
      const holderId = this.#ids.get(key);
      const holder = holderId === undefined ? undefined : (changed.get(holderId) ?? this.get(holderId));
      if (holder !== undefined && holder.id !== record.id) {
        changed.set(holder.id, withoutReferences(holder, [key]));
      }
    }
    changed.set(record.id, {
      ...record,
      names: union(record.names, names),
      digests: union(record.digests, digests),
    });
    return [...changed.values()];
  }

  /** Digests of the blobs that images name. */
  referencedBlobs(): ReadonlySet<string> {
    return new Set([...this.#state.images.values()].flatMap(blobsOf));
  }

  #byPrefix(text: string): ImageRecord | undefined {
    const prefix = text.startsWith("sha256:") ? text.slice("sha256:".length) : text;
    if (!/^[0-9a-f]+$/.test(prefix)) {
      return undefined;
    }
    const found = this.records().filter((record) => hexOf(record.id).startsWith(prefix));
    if (found.length > 1) {
      throw invalid(`multiple IDs found with provided prefix: ${text}`);
    }
    return found[0];
  }

  #indexNames(record: ImageRecord): void {
    for (const key of [...record.names, ...record.digests]) {
      this.#ids.set(key, record.id);
    }
  }

  #forgetNames(id: string): void {
    const record = this.get(id);
    for (const key of record === undefined ? [] : [...record.names, ...record.digests]) {
      if (this.#ids.get(key) === id) {
        this.#ids.delete(key);
      }
    }
  }
}

/** Digests of the blobs that an image names. A push replaces them: who awaits anything holds them first. */
export function blobsOf({ id, manifestDigest, layerDigests }: ImageRecord): string[] {
  return [id, manifestDigest, ...layerDigests].filter((digest) => digest !== "");
}

/** The same record without some of its names and digest references. */
export function withoutReferences(record: ImageRecord, removed: readonly string[]): ImageRecord {
  return {
    ...record,
    names: record.names.filter((name) => !removed.includes(name)),
    digests: record.digests.filter((digest) => !removed.includes(digest)),
  };
}

/** How the index and the records write a reference: by digest where it has one, else with its tag. */
export function keyOf(reference: NamedReference): string {
  return reference.digest === undefined
    ? canonicalString(withDefaultTag(reference))
    : canonicalString(withDigest(reference, reference.digest));
}

function noSuchImage(reference: AnyReference): Error {
  return notFound(
    `No such image: ${
      reference.kind === "id" ? reference.id : familiarString(withDefaultTag(reference.named))
    }`,
  );
}

function union(old: readonly string[], added: readonly string[]): string[] {
  return [...new Set([...old, ...added])].sort();
}
