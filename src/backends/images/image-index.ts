/**
 * Finds images by name, digest or ID. The state owns the records; this index adds names and digests. A name belongs to
 * one image at a time. Only this class changes image records, so that checking and changing are one step.
 */
import { invalid, notFound } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Images } from "../state/image-table.ts";
import type { NewEvent } from "../state/journal.ts";
import type { State } from "../state/state.ts";
import {
  type AnyReference,
  canonicalString,
  familiarString,
  type NamedReference,
  parseAny,
  repositoryName,
  withDefaultTag,
  withDigest,
} from "./reference.ts";

/** The most names of an image: each answer with the image has all of them. */
const mostNames = 1_024;

/** The most tags of the repositories that one request may name as a whole: as many as an archive that is loaded may have. */
const mostTags = 8_192;

/** A batch of records to put, IDs to remove, and events to journal. */
export interface IndexChange {
  readonly put?: readonly ImageRecord[];
  readonly remove?: readonly string[];
  readonly events?: readonly NewEvent[];
}

/** An image with one of its names, in full. */
export interface TaggedImage {
  readonly record: ImageRecord;
  readonly name: string;
}

/** The images of one backend, by all their identifiers. */
export class ImageIndex {
  /** The committed records. */
  readonly images: Images;
  readonly #state: State;
  /** Image IDs by full name (`docker.io/library/x:latest`) and digest reference (`docker.io/library/x@sha256:…`). */
  readonly #ids = new Map<string, string>();

  constructor(state: State) {
    this.images = state.images;
    this.#state = state;
    for (const record of this.images.values()) {
      this.#indexNames(record);
    }
  }

  /** The image with this name, or pulled by or with this digest. */
  named(reference: NamedReference): ImageRecord | undefined {
    const id = this.#ids.get(keyOf(reference));
    return id === undefined ? undefined : this.images.get(id);
  }

  /** Whether images are tagged in a repository. */
  hasTags(repository: NamedReference): boolean {
    const start = `${repositoryName(repository)}:`;
    return [...this.images.values()].some(({ names }) => names.some((name) => name.startsWith(start)));
  }

  /**
   * The images tagged in repositories, by their full names, sorted by name; found in one pass over all names.
   *
   * @throws invalid: they have too many tags
   */
  taggedIn(repositories: ReadonlySet<string>): ReadonlyMap<string, TaggedImage[]> {
    if (repositories.size === 0) {
      return new Map();
    }
    const tagged: TaggedImage[] = [];
    for (const record of this.images.values()) {
      for (const name of record.names.filter((each) => repositories.has(repositoryOfTag(each)))) {
        tagged.push({ record, name });
      }
      if (tagged.length > mostTags) {
        throw invalid(`the repositories have more than ${mostTags} tags: name those that are wanted`);
      }
    }
    tagged.sort((a, b) => (a.name < b.name ? -1 : 1));
    return Map.groupBy(tagged, ({ name }) => repositoryOfTag(name));
  }

  /**
   * Finds an image by a name in any form, a digest reference, an ID or a prefix of one.
   *
   * @throws not-found; invalid: not a reference
   */
  find(text: string): ImageRecord {
    const reference = parseAny(text);
    const record =
      reference.kind === "id"
        ? this.images.get(reference.id)
        : (this.named(reference.named) ?? this.#byPrefix(text));
    if (record === undefined) {
      throw noSuchImage(reference);
    }
    return record;
  }

  /** The image that this one was committed on, if it still exists. */
  parentOf(record: ImageRecord): ImageRecord | undefined {
    return record.parentId === "" ? undefined : this.images.get(record.parentId);
  }

  /** The IDs of images and of all images committed on top of them, directly or indirectly. */
  descentOf(ids: readonly string[]): ReadonlySet<string> {
    const descent = new Set(ids);
    for (const id of descent) {
      for (const child of this.images.childrenOf(id)) {
        descent.add(child.id);
      }
    }
    return descent;
  }

  /** Commits a change; visible in memory at once, durable when the promise resolves. */
  async commit({ put = [], remove = [], events = [] }: IndexChange): Promise<void> {
    const ids = [...remove, ...put.map(({ id }) => id)];
    // All old names are removed first, as a name may move between these records.
    for (const id of ids) {
      this.#forgetNames(id);
    }
    const committed = this.#state.commit((batch) => {
      for (const id of remove) {
        batch.images.delete(id);
      }
      for (const record of put) {
        batch.images.put(record);
      }
      for (const event of events) {
        batch.event(event);
      }
    });
    this.#indexCommitted(ids); // Those before, if they were refused at once: a change of the same turn may follow.
    try {
      await committed;
    } catch (error) {
      for (const { id, names, digests } of put) {
        this.#forget(id, [...names, ...digests]);
      }
      this.#indexCommitted(ids); // The records are as before.
      throw error;
    }
  }

  /**
   * The records that change when an image gets names and digest references: its own, and those of the images that lose
   * them.
   *
   * @throws invalid: it would have too many
   */
  withNames(record: ImageRecord, names: readonly string[], digests: readonly string[]): ImageRecord[] {
    const allNames = union(record.names, names);
    if (allNames.length > mostNames) {
      throw invalid(`an image may have at most ${mostNames} names`);
    }
    const allDigests = withDigests(record.digests, digests);
    const moved = Map.groupBy([...names, ...digests], (key) => this.#ids.get(key));
    const losing = [...moved].flatMap(([holderId, keys]) => {
      const holder = holderId === undefined || holderId === record.id ? undefined : this.images.get(holderId);
      return holder === undefined ? [] : [withoutReferences(holder, keys)];
    });
    return [...losing, { ...record, names: allNames, digests: allDigests }];
  }

  #byPrefix(text: string): ImageRecord | undefined {
    const start = text.startsWith("sha256:") ? text : `sha256:${text}`;
    if (!/^sha256:[0-9a-f]+$/.test(start)) {
      return undefined;
    }
    const found = this.images.startingWith(start);
    return found.length === 1 ? found[0] : undefined;
  }

  /** Indexes the names of images as the state has them. */
  #indexCommitted(ids: readonly string[]): void {
    for (const id of ids) {
      const record = this.images.get(id);
      if (record !== undefined) {
        this.#indexNames(record);
      }
    }
  }

  #indexNames(record: ImageRecord): void {
    for (const key of [...record.names, ...record.digests]) {
      this.#ids.set(key, record.id);
    }
  }

  #forgetNames(id: string): void {
    const record = this.images.get(id);
    this.#forget(id, record === undefined ? [] : [...record.names, ...record.digests]);
  }

  #forget(id: string, keys: readonly string[]): void {
    for (const key of keys) {
      if (this.#ids.get(key) === id) {
        this.#ids.delete(key);
      }
    }
  }
}

/** A copy of a record without some names and digest references. */
export function withoutReferences(record: ImageRecord, removed: readonly string[]): ImageRecord {
  const lost = new Set(removed);
  return {
    ...record,
    names: record.names.filter((name) => !lost.has(name)),
    digests: record.digests.filter((digest) => !lost.has(digest)),
  };
}

/** The key of a reference in the index and the records: by digest if it has one, otherwise with its tag. */
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

/**
 * Digest references of an image; where they are too many, the new ones replace the others of their repositories.
 *
 * @throws invalid: they are too many even so
 */
function withDigests(old: readonly string[], added: readonly string[]): string[] {
  const all = union(old, added);
  if (all.length <= mostNames) {
    return all;
  }
  const renewed = new Set(added.map(repositoryOf));
  const kept = union(
    old.filter((each) => !renewed.has(repositoryOf(each))),
    added,
  );
  if (kept.length > mostNames) {
    throw invalid(`an image may have at most ${mostNames} digests`);
  }
  return kept;
}

function repositoryOfTag(name: string): string {
  return name.slice(0, name.lastIndexOf(":"));
}

function repositoryOf(digestReference: string): string {
  return digestReference.slice(0, digestReference.indexOf("@"));
}

function union(old: readonly string[], added: readonly string[]): string[] {
  return [...new Set([...old, ...added])].sort();
}
