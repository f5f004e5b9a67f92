/**
 * Derived images that run as root although the original names another user: Azure would run them as that user, under
 * which the agent could not work. A derived image has the original's layers with the agent's on top; no layer passes
 * through this process.
 */
import * as v from "valibot";

import { mustRead, object } from "../../../common/documents.ts";
import { invalid } from "../../../common/errors.ts";
import { getOrInsert } from "../../../common/get-or-insert.ts";
import { shortId } from "../../../common/ids.ts";
import { agentInImage } from "../../cloud/images/agent-image.ts";
import type { OwnRepository } from "../../cloud/images/own-repository.ts";
import { hexOf, sha256Of } from "../../images/digest.ts";
import {
  type Descriptor,
  type ImageManifest,
  mediaTypes,
  parseJson,
  parseManifest,
} from "../../images/manifest.ts";
import { type NamedReference, parseNamed } from "../../images/reference.ts";
import type { FetchedManifest, Registry } from "../../images/registry/registry.ts";
import { listTags, removeTag } from "./tags.ts";

/** Settings and dependencies of {@link DerivedImages}. */
export interface DerivedImagesOptions {
  readonly repository: OwnRepository;
  /** Imports an image into the repository, under a tag. */
  readonly importAs: (source: NamedReference, tag: string, signal: AbortSignal) => Promise<void>;
  /** The image that brings the agent. */
  readonly agentImage: string;
  /** This instance's name, as others may keep the same images in the same repository. */
  readonly instance: string;
}

/** An image's documents in the repository. */
interface Fetched {
  readonly manifest: ImageManifest;
  readonly mediaType: string;
  /** JSON. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** A tag of this instance, digests short. */
interface DerivedTag {
  readonly tag: string;
  readonly original: string;
  /** The digest of the agent in a derived image; undefined for an original. */
  readonly agent: string | undefined;
}

/** Layers' media types in Docker manifests. */
const dockerLayer = "application/vnd.docker.image.rootfs.diff.tar.gzip";

const rootfsSchema = object({ diff_ids: v.array(v.string()) });

/** The derived images of this instance. Calls throw AzureError, or system with the registry's refusal. */
export class DerivedImages {
  readonly #options: DerivedImagesOptions;
  readonly #making = new Map<string, Promise<string>>();
  /**
   * Tags of images that this process has imported; a tag in another registry may have moved since an earlier process.
   */
  readonly #imported = new Set<string>();
  /** Digest of the agent in this process's derived images; undefined if there are none. */
  #agent: string | undefined;

  constructor(options: DerivedImagesOptions) {
    this.#options = options;
  }

  /**
   * Creates the image derived from an original and the current agent, unless it exists.
   *
   * @param original by digest
   * @returns the reference for jobs
   */
  async ensure(original: string, signal: AbortSignal): Promise<string> {
    const source = parseNamed(original);
    return await getOrInsert(this.#making, original, () =>
      this.#make(source, signal).finally(() => this.#making.delete(original)),
    );
  }

  async #make(source: NamedReference, signal: AbortSignal): Promise<string> {
    const { repository } = this.#options;
    const agent = await this.#here(parseNamed(this.#options.agentImage), this.#tagOf("agent", ""), signal);
    this.#agent = agent;
    const tag = this.#tagOf("run", source.digest ?? "", agent);
    const known = await repository.connected(signal, (registry) =>
      repository.digestOf(registry, tag, signal),
    );
    if (known !== undefined) {
      return repository.reference(known);
    }
    const original = await this.#here(source, this.#tagOf("base", source.digest ?? ""), signal);
    return await repository.connected(signal, async (registry) => {
      const path = repository.path;
      const derived = derive(
        await fetchImage(registry, path, original, signal),
        await fetchImage(registry, path, agent, signal),
      );
      const { digest, length } = { digest: sha256Of(derived.config), length: derived.config.length };
      if (!(await registry.hasBlob(path, digest, signal))) {
        const open = async function* (): AsyncGenerator<Uint8Array> {
          yield derived.config;
        };
        await registry.uploadBlob(path, digest, { length, open }, undefined, signal);
      }
      await registry.putManifest(path, tag, derived.manifest, signal);
      return repository.reference(derived.manifest.digest);
    });
  }

  /** Ensures that an image is in the repository, with its layers. @returns its digest there */
  async #here(source: NamedReference, tag: string, signal: AbortSignal): Promise<string> {
    const { repository, importAs } = this.#options;
    const find = (reference: string): Promise<string | undefined> =>
      repository.connected(signal, (registry) => repository.digestOf(registry, reference, signal));
    if (source.domain === repository.domain && source.path === repository.path) {
      const digest = source.digest ?? (await find(source.tag ?? "latest"));
      if (digest === undefined) {
        throw invalid(`there is no image ${this.#options.agentImage}: run \`sockerless aca push-agent\``);
      }
      return digest;
    }
    const imported = (await find(tag)) ?? "";
    if (imported === source.digest || (source.digest === undefined && this.#imported.has(tag))) {
      return imported;
    }
    await importAs(source, tag, signal);
    this.#imported.add(tag);
    return source.digest ?? (await find(tag)) ?? "";
  }

  /** Removes the images derived from an unused one. */
  async remove(original: string, signal: AbortSignal): Promise<void> {
    const { digest = "" } = parseNamed(original);
    await this.#removeTags((made) => made.original === shortOf(digest), signal);
  }

  /**
   * Removes images derived from originals other than these (by digest), or with another agent than the current one.
   *
   * @param isAsked whether a pending start uses an image
   */
  async sweep(
    originals: ReadonlySet<string>,
    isAsked: (reference: string) => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { repository } = this.#options;
    const known = new Set([...originals].map(shortOf));
    await this.#removeTags(async ({ original, agent, tag }) => {
      if (!known.has(original)) {
        return true;
      }
      if (agent === undefined || this.#agent === undefined || agent === shortOf(this.#agent)) {
        return false;
      }
      const digest = await repository.connected(signal, (registry) =>
        repository.digestOf(registry, tag, signal),
      );
      return digest !== undefined && !isAsked(repository.reference(digest));
    }, signal);
  }

  async #removeTags(
    isUnwanted: (made: DerivedTag) => boolean | Promise<boolean>,
    signal: AbortSignal,
  ): Promise<void> {
    const { repository } = this.#options;
    const own = this.#instanceMark();
    for (const tag of await listTags(repository, signal)) {
      const { original, instance, agent } = ownTag.exec(tag)?.groups ?? {};
      if (original !== undefined && instance === own && (await isUnwanted({ tag, original, agent }))) {
        await removeTag(repository, tag, signal);
      }
    }
  }

  /** `run-<original>-<instance>-<agent>`, digests short. */
  #tagOf(kind: "run" | "base" | "agent", original: string, agent?: string): string {
    const parts = [kind, shortOf(original), this.#instanceMark(), agent === undefined ? "" : shortOf(agent)];
    return parts.filter((part) => part !== "").join("-");
  }

  #instanceMark(): string {
    return shortOf(sha256Of(this.#options.instance));
  }
}

const shortLength = 24;
const ownTag = /^(run|base)-(?<original>[0-9a-f]{24})-(?<instance>[0-9a-f]{24})(-(?<agent>[0-9a-f]{24}))?$/;

/** A digest shortened to a unique prefix; empty for none. */
function shortOf(digest: string): string {
  return digest === "" ? "" : hexOf(digest).slice(0, shortLength);
}

async function fetchImage(
  registry: Registry,
  path: string,
  digest: string,
  signal: AbortSignal,
): Promise<Fetched> {
  const { bytes, mediaType } = await registry.manifest(path, digest, signal);
  const document = parseManifest(bytes, mediaType);
  if (document.kind !== "manifest") {
    throw invalid(`${path}@${shortId(hexOf(digest))} is an index of images: one of them is needed`);
  }
  const { manifest } = document;
  const bytesOfConfig = await registry.config(path, manifest.config.digest, signal);
  const config = parseJson(bytesOfConfig, "image configuration");
  return { manifest, mediaType: document.mediaType, config: config as Record<string, unknown> };
}

/** The configuration of a derived image: the original's, with the agent's layer, running as root. */
function derive(
  original: Fetched,
  agent: Pick<Fetched, "manifest" | "config">,
): { readonly config: Uint8Array; readonly manifest: FetchedManifest } {
  const isDockers = original.mediaType === mediaTypes.dockerManifest;
  const layers = agent.manifest.layers.map((layer) => ({
    ...pickDescriptor(layer),
    mediaType: isDockers ? dockerLayer : layer.mediaType,
  }));
  const { config: defaults, rootfs, history } = original.config as Record<string, Record<string, unknown>>;
  const steps = Array.isArray(history) ? history : undefined;
  const config = Buffer.from(
    JSON.stringify({
      ...original.config,
      config: { ...defaults, User: "0", Entrypoint: [agentInImage], Cmd: ["init"] },
      rootfs: { ...rootfs, diff_ids: [...diffIdsOf(original.config), ...diffIdsOf(agent.config)] },
      ...(steps === undefined ? {} : { history: [...steps, { created_by: "sockerless: the agent" }] }),
    }),
  );
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: original.mediaType,
      config: { ...pickDescriptor(original.manifest.config), digest: sha256Of(config), size: config.length },
      layers: [...original.manifest.layers.map(pickDescriptor), ...layers],
    }),
  );
  return { config, manifest: { bytes, digest: sha256Of(bytes), mediaType: original.mediaType } };
}

function pickDescriptor({
  mediaType,
  digest,
  size,
}: Descriptor): Pick<Descriptor, "mediaType" | "digest" | "size"> {
  return { mediaType, digest, size };
}

function diffIdsOf({ rootfs }: Readonly<Record<string, unknown>>): readonly string[] {
  return mustRead(rootfsSchema, rootfs).diff_ids;
}
