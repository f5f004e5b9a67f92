/**
 * The images of one backend: content store, index and registry client behind one door. What the operations mean is in
 * the files beside this one; here they are put together.
 *
 * Lifecycle: `open` clears what interrupted work left and reads the configurations; `close` ends pulls under way.
 */
import path from "node:path";

import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../../common/clock.ts";
import { invalid, notFound, unavailable } from "../../../common/errors.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import type { Platform, StringList } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type ImageDetail,
  type ImageHistoryEntry,
  type ImageSummary,
  type ListImagesRequest,
  ListImagesRequestSchema,
} from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord, SealedImage } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../driver.ts";
import { OneAtATime } from "../engine/one-at-a-time.ts";
import type { ImageCommit, ImageSource, ResolvedImage } from "../engine/image-source.ts";
import type { State } from "../state/state.ts";
import { abortable } from "./abortable-stream.ts";
import { type BlobLease, ContentStore } from "./content-store.ts";
import { type DistributedImage, inspectDistribution } from "./distribution.ts";
import { fetchUrl, withProgress } from "./fetch-url.ts";
import { builtInLabel, helloName, makeHelloImage } from "./hello-image.ts";
import { ImageConfigs } from "./image-configs.ts";
import { describeImage } from "./image-detail.ts";
import { type ImageDocuments, readDocuments, storeDocuments } from "./image-documents.ts";
import { commitImage } from "./image-commit.ts";
import { imageEvent } from "./image-events.ts";
import { historyOf } from "./image-history.ts";
import { referencesToPrune } from "./image-prune.ts";
import { imagesToSave, type SavedImage, saveImages } from "./image-save.ts";
import { sizesByChain } from "./layer-sizes.ts";
import { importImage, type ImportRequest } from "./image-import.ts";
import {
  ImageDisposal,
  type ImagePruneReport,
  layersWithoutUse,
  type RemovedEntry,
} from "./image-disposal.ts";
import { ImageIndex } from "./image-index.ts";
import { ImageInstaller, now } from "./image-installer.ts";
import { type ListedImage, listImages } from "./image-list.ts";
import { layerBlobs } from "./layer-blobs.ts";
import { LayerSupply } from "./layer-supply.ts";
import { LayerRetention } from "./layer-retention.ts";
import { Limiter } from "./limiter.ts";
import {
  checkPulled,
  type FinishedPull,
  pulledReference,
  pullImage,
  type PulledImage,
  type PullParts,
  type PullRequest,
  reportStatus,
  reportWarning,
  tagsOf,
} from "./pull.ts";
import type { ReportProgress } from "./progress.ts";
import { type PushedImage, pushImage, type PushParts, type PushRequest, referencesToPush } from "./push.ts";
import { type Credentials, credentialsFingerprint, isAnonymous } from "./registry/credentials.ts";
import type { RegistryOptions } from "./registry/registry.ts";
import { login, type LoginResult } from "./registry-login.ts";
import { SharedPulls } from "./shared-pulls.ts";
import { loadArchive, type LoadedImageName, type LoadRequest } from "./load.ts";
import { formatPlatform, platformDistance } from "./platform.ts";
import {
  canonicalString,
  familiarName,
  familiarString,
  type NamedReference,
  parseAny,
  parseNamed,
  parseTarget,
  repositoryName,
  withDefaultTag,
} from "./reference.ts";

/** What an image store works with. */
export interface ImageStoreOptions {
  /** The backend's state directory; content lies in `blobs` below it. */
  readonly stateDirectory: string;
  readonly state: State;
  readonly preparer: ImagePreparer;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What `docker info` and `docker inspect` name as storage driver. */
  readonly storageDriver: string;
  readonly registry: RegistryOptions;
  /** Credentials that the driver itself has for a registry's host, used where a client gives none. */
  readonly credentialsFor?: (domain: string) => Promise<Credentials | undefined>;
  /** What images are of where nobody says; absent: this machine's. */
  readonly defaultPlatform?: Platform;
}

/** An import of what a URL answers. */
export interface UrlImportRequest extends Omit<ImportRequest, "archive"> {
  readonly url: string;
  readonly report: ReportProgress;
}

/** Layers that are held. */
export interface OpenLayers extends AsyncDisposable {
  /** Readers of each, bottom first, as they are stored: compressed or not. */
  readonly layers: readonly (() => AsyncIterable<Uint8Array>)[];
}

/** Layers on their way at a time. */
const parallelDownloads = 3;
const parallelUploads = 5;

/** All images of a backend. */
export class ImageStore implements ImageSource {
  readonly #options: ImageStoreOptions;
  readonly #logger: Logger;
  readonly #content: ContentStore;
  readonly #index: ImageIndex;
  readonly #configs = new ImageConfigs();
  readonly #retention: LayerRetention;
  readonly #installer: ImageInstaller;
  readonly #disposal: ImageDisposal;
  readonly #pulls = new SharedPulls();
  readonly #prunes = new OneAtATime();
  readonly #supply: LayerSupply;
  /** By repository, what a client has given for the last pull from there; in memory only. */
  readonly #pulledWith = new Map<string, Credentials>();
  readonly #pullParts: PullParts;
  readonly #pushParts: PushParts;
  /** Ends long work at the end of the process. */
  readonly #closing = new AbortController();
  readonly #work = new Set<Promise<unknown>>();

  private constructor(options: ImageStoreOptions, content: ContentStore) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "images");
    this.#content = content;
    this.#index = new ImageIndex(options.state);
    this.#retention = new LayerRetention(options.preparer, (diffIds) =>
      layersWithoutUse(options.state, diffIds),
    );
    const parts = {
      content,
      index: this.#index,
      configs: this.#configs,
      retention: this.#retention,
      prepared: new Set<string>(),
      logger: this.#logger,
    };
    this.#installer = new ImageInstaller({ ...parts, preparer: options.preparer, clock: options.clock });
    this.#disposal = new ImageDisposal({ ...parts, preparer: options.preparer, state: options.state });
    this.#pullParts = {
      store: content,
      index: this.#index,
      installer: this.#installer,
      clock: options.clock,
      registry: options.registry,
      downloads: new Limiter(parallelDownloads),
      needsLayers: options.preparer.needsLayers,
    };
    this.#supply = new LayerSupply({
      ...parts,
      clock: options.clock,
      registry: options.registry,
      downloads: this.#pullParts.downloads,
      credentialsFor: (repository) => this.#credentialsFor(repository, undefined),
    });
    this.#pushParts = {
      store: content,
      index: this.#index,
      configs: this.#configs,
      clock: options.clock,
      registry: options.registry,
      uploads: new Limiter(parallelUploads),
    };
  }

  /** Opens the images of a state; blobs that no image names are deleted. */
  static async open(options: ImageStoreOptions): Promise<ImageStore> {
    const content = await ContentStore.open(path.join(options.stateDirectory, "blobs"));
    const store = new ImageStore(options, content);
    const referenced = store.#index.referencedBlobs();
    const collected = await content.collect((digest) => referenced.has(digest));
    if (collected > 0) {
      store.#logger.info({ blobs: collected }, "deleted content that no image needs");
    }
    await store.#configs.load(content, store.#index.records(), store.#logger);
    await store.#sweepLayers();
    return store;
  }

  /** Ends what is under way and waits for it. */
  async close(): Promise<void> {
    this.#closing.abort(unavailable("the backend is shutting down"));
    await Promise.allSettled(this.#work);
  }

  /** How many images there are. */
  get count(): number {
    return this.#index.size;
  }

  async resolve(reference: string, platform?: Platform): Promise<ResolvedImage> {
    const record = this.#find(reference, platform);
    return { record, config: this.#configs.get(record.id).config };
  }

  idOf(reference: string): string | undefined {
    try {
      return this.#index.find(reference).id;
    } catch {
      return undefined;
    }
  }

  makeRunnable(image: ImageRecord, signal: AbortSignal): Promise<void> {
    return this.#installer.makeRunnable(image, signal);
  }

  /** What `docker image inspect` tells. Throws as {@link resolve}. */
  inspect(reference: string, platform?: Platform): ImageDetail {
    const record = this.#find(reference, platform);
    const parentId = this.#index.parentOf(record)?.id ?? "";
    return describeImage(record, this.#configs.get(record.id), parentId, this.#options.storageDriver);
  }

  /** What `docker images` lists. */
  list(request: ListImagesRequest): ImageSummary[] {
    return listImages(this.#listed(), request, {
      nowMs: this.#options.clock.nowMs(),
      find: (reference) => {
        const record = this.#index.find(reference);
        return { config: this.#configs.get(record.id) };
      },
    });
  }

  /**
   * Gives an image a name, taking it from the image that had it.
   *
   * @throws not-found, invalid
   */
  async tag(source: string, target: string): Promise<void> {
    const name = parseTarget(target);
    if (familiarName(name) === "sha256") {
      throw invalid("refusing to create an ambiguous tag using digest algorithm as name");
    }
    const record = this.#index.find(source);
    const tagged = { ...record, lastTagged: now(this.#options.clock) };
    await this.#index.commit({
      put: this.#index.withNames(tagged, [canonicalString(name)], []),
      events: [imageEvent("tag", record.id, familiarString(name), this.#configs.find(record.id))],
    });
  }

  /**
   * Removes a name, or an image with its names; see {@link ImageDisposal.remove}.
   *
   * @throws not-found: also an image of another platform
   */
  async remove(
    reference: string,
    force: boolean,
    noPrune = false,
    platform?: Platform,
  ): Promise<RemovedEntry[]> {
    if (platform !== undefined) {
      this.#find(reference, platform);
    }
    return await this.#disposal.remove(reference, force, noPrune);
  }

  /**
   * Removes images that nothing needs; one that a container uses is left.
   *
   * @param signal ends the prune: what is left is spared
   * @throws invalid: a filter; conflict: another prune is under way
   */
  prune(filters: Readonly<Record<string, StringList>>, signal: AbortSignal): Promise<ImagePruneReport> {
    return this.#prunes.run(() => {
      const nowMs = this.#options.clock.nowMs();
      return this.#disposal.prune(referencesToPrune(this.#listed(), filters, nowMs), signal);
    });
  }

  diskUsage(): { readonly layersSize: bigint; readonly images: readonly ImageSummary[] } {
    const sizes = sizesByChain(this.#index.records());
    return {
      layersSize: [...sizes.values()].reduce((sum, size) => sum + size, 0n),
      images: this.list(create(ListImagesRequestSchema, { sharedSize: true })),
    };
  }

  /**
   * Writes images as one archive; see {@link saveImages}. Names, digests and IDs are looked up at once.
   *
   * @throws as {@link resolve}, before the first byte
   */
  async *save(
    references: readonly string[],
    platform: Platform | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const images = imagesToSave(this.#index, references, (reference) => this.#find(reference, platform));
    const lease = this.#content.lease();
    const ended = AbortSignal.any([signal, this.#closing.signal]);
    try {
      const whole: SavedImage[] = [];
      for (const image of images) {
        whole.push({ ...image, record: await this.#supply.complete(lease, image.record, ended) });
      }
      yield* saveImages(this.#content, lease, whole, ended);
      const saved = ({ record }: SavedImage) =>
        imageEvent("save", record.id, record.id, this.#configs.find(record.id));
      await this.#index.commit({ events: images.map(saved) });
    } finally {
      await this.#disposal.release(lease);
    }
  }

  /** Loads an archive; see {@link loadArchive}. */
  load(request: LoadRequest): Promise<LoadedImageName[]> {
    return this.#leased(request.signal, (lease, signal) =>
      loadArchive(this.#content, this.#installer, lease, {
        ...request,
        archive: abortable(request.archive, signal),
        signal,
      }),
    );
  }

  /** Imports a root file system and answers the image's ID; see {@link importImage}. */
  import(request: ImportRequest): Promise<string> {
    return this.#leased(request.signal, (lease, signal) =>
      importImage(this.#content, this.#installer, this.#options.clock, lease, {
        ...request,
        platform: request.platform ?? this.#options.defaultPlatform,
        archive: abortable(request.archive, signal),
        signal,
      }),
    );
  }

  /** Fetches a root file system and imports it; see {@link fetchUrl} and {@link importImage}. */
  importFromUrl({ url, report, ...request }: UrlImportRequest): Promise<string> {
    return this.#leased(request.signal, async (lease, signal) => {
      if (request.reference !== "") {
        parseTarget(request.reference); // A name that is none is told before anybody is asked for the archive.
      }
      using fetched = await fetchUrl(url, this.#options.registry, signal);
      report({ id: "", status: `Downloading from ${fetched.url}` });
      const platform = request.platform ?? this.#options.defaultPlatform;
      const archive = abortable(withProgress(fetched, report), signal);
      const { clock } = this.#options;
      return await importImage(this.#content, this.#installer, clock, lease, {
        ...request,
        platform,
        archive,
        signal,
      });
    });
  }

  /** Makes an image of what a container changed; see {@link commitImage}. */
  commit(request: ImageCommit): Promise<string> {
    return this.#leased(request.signal, async (lease, signal) => {
      const record = await this.#supply.complete(lease, this.#index.find(request.parentId), signal);
      const parent = { record, config: this.#configs.get(record.id) };
      const parts = { store: this.#content, installer: this.#installer, clock: this.#options.clock };
      const layer = abortable(request.layer, signal);
      return await commitImage(parts, lease, parent, { ...request, layer, signal });
    });
  }

  /**
   * The layers of an image, by its ID, held until disposed of; those that a pull left are fetched for that.
   *
   * @param signal ends fetching and reading
   * @throws not-found; what fetching the layers throws
   */
  async openLayers(imageId: string, signal: AbortSignal): Promise<OpenLayers> {
    const lease = this.#content.lease();
    const release = (): Promise<void> => this.#disposal.release(lease);
    const ended = AbortSignal.any([signal, this.#closing.signal]);
    try {
      const record = await this.#supply.complete(lease, this.#index.find(imageId), ended);
      const blobs = await layerBlobs(this.#content, lease, record);
      return {
        layers: blobs.map(
          ({ blob }) =>
            () =>
              this.#content.stream(blob.digest, ended),
        ),
        [Symbol.asyncDispose]: release,
      };
    } catch (error) {
      await release();
      throw error;
    }
  }

  /** An image's configuration and manifest; undefined where they are not there, or have more bytes than that. */
  async documentsOf(image: ImageRecord, mostBytes: number): Promise<ImageDocuments | undefined> {
    return await readDocuments(this.#content, image, mostBytes);
  }

  /**
   * Takes over an image whose layers are elsewhere. Names that other images have stay theirs; an image that is there is
   * left as it is.
   *
   * @throws invalid: its documents are not the ones that its record names
   */
  async adopt({ record, config, manifest }: SealedImage): Promise<void> {
    if (record === undefined || this.#index.get(record.id) !== undefined) {
      return;
    }
    await this.#leased(this.#closing.signal, async (lease) => {
      const parsed = await storeDocuments(this.#content, lease, record, { config, manifest });
      this.#configs.add(record.id, parsed);
      const isFree = (name: string): boolean => this.#index.named(parseNamed(name)) === undefined;
      const { names, digests } = record;
      const adopted = {
        ...record,
        names: names.filter(isFree),
        digests: digests.filter(isFree),
        layerSizes: [],
      };
      await this.#index.commit({ put: [adopted] });
    });
  }

  /** The steps in which an image was made, newest first. Throws as {@link resolve}. */
  history(reference: string, platform?: Platform): ImageHistoryEntry[] {
    const record = this.#find(reference, platform);
    return historyOf(record, this.#configs.get(record.id), this.#ancestorsOf(record));
  }

  /** Pulls an image; pulls of one reference at the same time share their work. See {@link pullImage}. */
  async pull(request: PullRequest): Promise<PulledImage> {
    const { imageId, digest, isNewer, warning } = await this.#pull(request);
    reportStatus(request.report, isNewer, pulledReference(request.reference));
    reportWarning(request.report, warning);
    return { imageId, digest };
  }

  /**
   * Pulls all tags of a repository, one after the other; what was pulled before one fails stays.
   *
   * @param request its reference is a name alone
   * @returns the last one; undefined: the repository has no tags
   * @throws as {@link pull}
   */
  async pullAllTags(request: PullRequest): Promise<PulledImage | undefined> {
    const repository = parseNamed(request.reference);
    checkPulled(repository);
    const auth = await this.#credentialsFor(repository, request.auth);
    const tags = await tagsOf(repository, auth, this.#options.registry, request.signal);
    let last: PulledImage | undefined;
    let isNewer = false;
    for (const tag of tags) {
      const pulled = await this.#pull({ ...request, reference: `${repositoryName(repository)}:${tag}` });
      reportWarning(request.report, pulled.warning);
      isNewer ||= pulled.isNewer;
      last = { imageId: pulled.imageId, digest: pulled.digest };
    }
    reportStatus(request.report, isNewer, repository);
    return last;
  }

  async #pull(request: PullRequest): Promise<FinishedPull> {
    const named = pulledReference(request.reference);
    const platform = request.platform ?? this.#options.defaultPlatform;
    const auth = await this.#credentialsFor(named, request.auth);
    const key = [
      canonicalString(named),
      platform === undefined ? "" : formatPlatform(platform),
      credentialsFingerprint(auth),
    ].join(" ");
    const pulled = await this.#pulls.join(key, request.report, request.signal, (report, shared) =>
      this.#leased(shared, (lease, signal) =>
        pullImage(this.#pullParts, lease, { ...request, platform, auth, report, signal }),
      ),
    );
    // The driver's own expire, and are asked for anew.
    if (request.auth !== undefined && !isAnonymous(request.auth) && !this.#options.preparer.needsLayers) {
      this.#pulledWith.set(repositoryName(named), request.auth);
    }
    return pulled;
  }

  /** What the registry of a reference says of it; see {@link inspectDistribution}. */
  async inspectDistribution(
    reference: string,
    given: Credentials | undefined,
    signal: AbortSignal,
  ): Promise<DistributedImage> {
    const named = withDefaultTag(parseNamed(reference));
    const auth = await this.#credentialsFor(named, given);
    return await inspectDistribution(named, auth, this.#options.registry, signal);
  }

  /** What the reference of a push means, one tag each; see {@link referencesToPush}. */
  referencesToPush(reference: string): string[] {
    return referencesToPush(this.#index, reference);
  }

  /** Pushes an image; see {@link pushImage}. */
  async push(request: PushRequest): Promise<PushedImage> {
    if (request.platform !== undefined) {
      this.#find(request.reference, request.platform);
    }
    const named = withDefaultTag(parseNamed(request.reference));
    const auth = await this.#credentialsFor(named, request.auth);
    return await this.#leased(request.signal, async (lease, signal) => {
      const record = this.#index.named(named);
      if (record !== undefined) {
        await this.#supply.complete(lease, record, signal);
      }
      return await pushImage(this.#pushParts, lease, { ...request, auth, signal });
    });
  }

  /** Checks credentials at a registry; see {@link login}. */
  authenticate(credentials: Credentials, serverAddress: string, signal: AbortSignal): Promise<LoginResult> {
    return login(credentials, serverAddress, this.#options.registry, signal);
  }

  /**
   * Makes the built-in image `sockerless/hello` from a static binary where it is missing, in place of an earlier
   * version's. Events tell nothing of it.
   */
  async ensureHello(binaryPath: string, signal: AbortSignal): Promise<void> {
    const holder = this.#index.named(parseNamed(helloName));
    if (holder !== undefined && !this.#isBuiltIn(holder)) {
      return;
    }
    await this.#leased(signal, async (lease, ended) => {
      const image = await makeHelloImage(this.#content, lease, binaryPath);
      if (image.id !== holder?.id) {
        await this.#installer.install([image], ended);
      }
    });
    for (const record of this.#index.records()) {
      const isNamed = record.names.length > 0 || record.digests.length > 0;
      const isParent = this.#index.parentIds().has(record.id);
      const isUsed = isParent || this.#disposal.usersOf(record.id).length > 0;
      if (!isNamed && this.#isBuiltIn(record) && !isUsed) {
        await this.#disposal.delete(record, []);
      }
    }
  }

  /** Has the driver forget those of a removed container's layers that nothing stands on any more. */
  async forgetUnusedLayers(diffIds: readonly string[]): Promise<void> {
    await this.#retention.forgetUnused(diffIds);
  }

  #listed(): ListedImage[] {
    const parents = this.#index.parentIds();
    return this.#index.records().flatMap((record) => {
      const config = this.#configs.find(record.id);
      const containers = this.#disposal.usersOf(record.id).length;
      const parentId = this.#index.parentOf(record)?.id ?? "";
      const isParent = parents.has(record.id);
      return config === undefined ? [] : [{ record, config, containers, parentId, isParent }];
    });
  }

  /** What the client gave; else what the last pull was allowed with, or the driver's own. */
  async #credentialsFor(
    repository: NamedReference,
    given: Credentials | undefined,
  ): Promise<Credentials | undefined> {
    return isAnonymous(given)
      ? (this.#pulledWith.get(repositoryName(repository)) ??
          (await this.#options.credentialsFor?.(repository.domain)))
      : given;
  }

  /** The images that it stands on, the nearest first. */
  #ancestorsOf(record: ImageRecord): ImageRecord[] {
    const ancestors: ImageRecord[] = [];
    for (let next = this.#index.parentOf(record); next !== undefined; next = this.#index.parentOf(next)) {
      ancestors.push(next);
    }
    return ancestors;
  }

  /** What a crash left between a record's end and its layers' is cleared away; failing is no reason not to start. */
  async #sweepLayers(): Promise<void> {
    try {
      await this.#retention.forgetUnused(await this.#options.preparer.known());
    } catch (error) {
      this.#logger.warn({ err: error }, "layers that no image needs are left behind");
    }
  }

  #find(reference: string, platform: Platform | undefined): ImageRecord {
    const record = this.#index.find(reference);
    const offered = this.#configs.get(record.id).platform;
    if (platform !== undefined && platformDistance(platform, offered) === undefined) {
      const parsed = parseAny(reference);
      const name = parsed.kind === "named" ? familiarString(parsed.named) : reference;
      throw notFound(
        `image with reference ${name} was found but its platform (${formatPlatform(offered)}) ` +
          `does not match the specified platform (${formatPlatform(platform)})`,
      );
    }
    return record;
  }

  #isBuiltIn(record: ImageRecord): boolean {
    return this.#configs.find(record.id)?.config.labels[builtInLabel] !== undefined;
  }

  /** Does work under a lease: what it took in and no image needs in the end goes, however it ends. */
  async #leased<T>(
    signal: AbortSignal,
    work: (lease: BlobLease, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const lease = this.#content.lease();
    const ended = Promise.withResolvers<void>();
    this.#work.add(ended.promise);
    try {
      return await work(lease, AbortSignal.any([signal, this.#closing.signal]));
    } finally {
      await this.#disposal.release(lease);
      this.#work.delete(ended.promise);
      ended.resolve();
    }
  }
}
