/**
 * The archive of `docker save` before Docker 1.10, still written by old tools: each directory is an image of one layer
 * with an ID of that time, on top of its parent; `repositories` has the tags.
 */
import * as v from "valibot";

import { object, openMap } from "../../common/documents.ts";
import { invalid, messageOf } from "../../common/errors.ts";
import type { ArchiveFiles } from "./archive-reader.ts";
import {
  type ArchiveContext,
  type ArchivedImage,
  refuseTooManyImages,
  refuseTooManyNames,
} from "./archived-image.ts";
import { objectBytes } from "./held-documents.ts";
import { parseNewImageConfig, refuseTooDeep } from "./image-config.ts";
import { check, mostListValues, parseJson } from "./manifest.ts";
import { canonicalString, parseNamed, repositoryName } from "./reference.ts";

const text = v.nullish(v.string(), "");

const stepSchema = object({
  parent: text,
  created: text,
  author: text,
  comment: text,
  container_config: v.nullish(object({ Cmd: v.nullish(v.array(v.string())) })),
});

/** Members of a directory's `json` that are not part of its image. */
const forgotten = new Set(["id", "parent", "Size", "parent_id", "layer_id", "throwaway"]);

/** The `json` of a directory. */
interface Step {
  readonly json: object;
  readonly parent: string;
  readonly history: object;
  /** Bytes that it was counted with. */
  readonly held: number;
}

/**
 * The images of a legacy archive, parents before children. A parent must be a directory of the archive, so that no name
 * leads out of it.
 *
 * @throws SockerlessError of kind `invalid`, in moby's words where possible
 */
export async function readLegacyArchive(
  files: ArchiveFiles,
  context: ArchiveContext,
): Promise<ArchivedImage[]> {
  refuseTooManyImages(files.folders.size);
  const reader = new LegacyReader(files, context);
  for (const folder of [...files.folders].sort()) {
    await reader.read(folder);
  }
  const repositories = files.get("repositories");
  const tags = check(
    openMap(openMap(v.string())),
    parseJson(await context.readDocument(repositories), "repositories", mostListValues),
    "repositories",
  );
  return reader.named(tags);
}

class LegacyReader {
  readonly #files: ArchiveFiles;
  readonly #context: ArchiveContext;
  readonly #images = new Map<
    string,
    { readonly image: ArchivedImage; readonly history: readonly object[] }
  >();

  constructor(files: ArchiveFiles, context: ArchiveContext) {
    this.#files = files;
    this.#context = context;
  }

  /** Reads a directory after its ancestors. */
  async read(folder: string): Promise<void> {
    const chain = new Set<string>();
    for (let next = folder; next !== "" && !this.#images.has(next); ) {
      if (chain.has(next)) {
        throw invalid(`image ${next} is its own ancestor`);
      }
      refuseTooDeep(chain.size + 1);
      chain.add(next);
      next = (await this.#step(next)).parent; // Keeps only the parent, as all of them together may be large.
    }
    for (const each of [...chain].reverse()) {
      await this.#add(each);
    }
  }

  /** The images with the names that tags give to directories. */
  named(tags: Readonly<Record<string, Readonly<Record<string, string>>>>): ArchivedImage[] {
    const images = new Map([...this.#images.values()].map(({ image }) => [image.configBlob.digest, image]));
    const names = new Map<string, string[]>([...images.keys()].map((digest) => [digest, []]));
    refuseTooManyNames(Object.values(tags).reduce((sum, folders) => sum + Object.keys(folders).length, 0));
    for (const [name, folders] of Object.entries(tags)) {
      for (const [tag, folder] of Object.entries(folders)) {
        const ofImage = names.get(this.#images.get(folder)?.image.configBlob.digest ?? "");
        if (ofImage === undefined) {
          throw invalid(`invalid target ID: ${folder}`);
        }
        const tagged = taggedName(name, tag);
        this.#context.hold(2 * tagged.length); // A long name stands once for all of its tags.
        ofImage.push(tagged);
      }
    }
    return [...images].map(([digest, image]) => ({ ...image, names: names.get(digest) ?? [] }));
  }

  async #step(folder: string): Promise<Step> {
    const name = `${folder}/json`;
    if (!this.#files.folders.has(folder)) {
      throw invalid(`open ${name}: no such file or directory`);
    }
    const blob = this.#files.get(name);
    const bytes = await this.#context.readDocument(blob);
    const json = parseJson(bytes, "image configuration");
    const { parent, created, author, comment, container_config } = check(
      stepSchema,
      json,
      "image configuration",
    );
    const createdBy = container_config?.Cmd?.join(" ") ?? "";
    const history = {
      created: created === "" ? undefined : goTime(created),
      created_by: createdBy || undefined,
      author: author || undefined,
      comment: comment || undefined,
    };
    return { json: json as object, parent, history, held: heldBytes(bytes) };
  }

  async #add(folder: string): Promise<void> {
    const { store, lease, measure, hold } = this.#context;
    const { json, parent, history, held } = await this.#step(folder);
    const beneath = this.#images.get(parent);
    const layer = this.#files.get(`${folder}/layer.tar`);
    const layers = [...(beneath?.image.layers ?? []), layer];
    refuseTooDeep(layers.length);
    const steps = [...(beneath?.history ?? []), history];
    const { diffId } = await measure(layer);
    const configBytes = renderConfig(json, [...(beneath?.image.config.diffIds ?? []), diffId], steps);
    hold(Math.max(0, heldBytes(configBytes) - held)); // Each repeats the history of its parents.
    const image = {
      config: parseNewImageConfig(configBytes),
      configBlob: await store.putBytes(lease, configBytes),
      layers,
      names: [],
      ...(beneath === undefined ? {} : { parentId: beneath.image.configBlob.digest }),
    };
    this.#images.set(folder, { image, history: steps });
  }
}

/** Bytes of a document and of the objects made from it. */
function heldBytes(document: Uint8Array): number {
  return document.length + objectBytes(document);
}

/** Converts a directory's `json` to a current configuration, formatted as by Go. */
function renderConfig(json: object, diffIds: readonly string[], history: readonly object[]): Uint8Array {
  const made = { history, rootfs: { type: "layers", diff_ids: diffIds } };
  const members = Object.entries({ ...json, ...made }).filter(([key]) => !forgotten.has(key));
  const document = Object.fromEntries(members.sort(([a], [b]) => (a < b ? -1 : 1)));
  try {
    return Buffer.from(escapedForHtml(JSON.stringify(document)));
  } catch (error) {
    throw invalid(`invalid image configuration: ${messageOf(error)}`, error); // Nested too deeply.
  }
}

function escapedForHtml(json: string): string {
  return json.replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A time with nanoseconds, without trailing zeros in its fraction. */
function goTime(written: string): string {
  return written.replace(/\.(\d{1,9})\d*/, (_, digits: string) => `.${digits}`.replace(/\.?0*$/, ""));
}

/** @throws invalid: not a name, or not a tag */
function taggedName(name: string, tag: string): string {
  const named = parseNamed(name);
  const tagged = parseNamed(`${repositoryName(named)}:${tag}`);
  if (named.digest !== undefined || tagged.tag !== tag) {
    throw invalid("invalid tag format");
  }
  return canonicalString(tagged);
}
