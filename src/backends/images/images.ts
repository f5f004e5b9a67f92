/**
 * The images of one backend, assembled: each caller uses the part that it needs. The content store has the content, the
 * index the records; everything that stores content runs under a lease ({@link ImageWork}).
 */
import path from "node:path";

import type { Clock } from "../../common/clock.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImagePreparer } from "../driver/images.ts";
import type { ImageSource } from "../driver/image-source.ts";
import type { State } from "../state/state.ts";
import { ContentStore } from "./content-store.ts";
import { Distribution } from "./distribution.ts";
import { BuiltInImage } from "./hello-image.ts";
import { ImageArchives } from "./image-archives.ts";
import { ImageCatalog } from "./image-catalog.ts";
import { ImageConfigs } from "./image-configs.ts";
import { ImageDisposal, layersWithoutUse } from "./image-disposal.ts";
import { ImageImports } from "./image-import.ts";
import { ImageIndex } from "./image-index.ts";
import { ImageInstaller } from "./image-installer.ts";
import { ImagePulls } from "./image-pulls.ts";
import { ImagePushes } from "./image-pushes.ts";
import { ImageWork } from "./image-work.ts";
import { ImagesForContainers } from "./images-for-containers.ts";
import { bootOfMachine, LayerDurability } from "./layer-durability.ts";
import { LayerRetention } from "./layer-retention.ts";
import { LayerSupply } from "./layer-supply.ts";
import { Limiter } from "../concurrency/limiter.ts";
import { PreparedImages } from "./prepared-images.ts";
import { recoverImages } from "./recover-images.ts";
import type { RegistryOptions } from "./registry/registry.ts";
import { ImageRemoval } from "./remove-images.ts";
import { type DriverCredentials, KnownCredentials } from "./known-credentials.ts";

/** Settings and dependencies of images. */
export interface ImagesOptions {
  /** The backend's state directory; content is in its `blobs`. */
  readonly stateDirectory: string;
  readonly state: State;
  readonly preparer: ImagePreparer;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The storage driver shown by `docker info` and `docker inspect`. */
  readonly storageDriver: string;
  readonly registry: RegistryOptions;
  /** Credentials for requests of clients that provide none. */
  readonly credentialsFor?: DriverCredentials;
  /** Default platform of images; absent for this machine's. */
  readonly defaultPlatform?: Platform;
  /** ID of the machine's boot; default: the system's. */
  readonly boot?: string;
}

/** All images of a backend, by purpose. */
export interface Images {
  readonly content: ContentStore;
  readonly catalog: ImageCatalog;
  readonly containers: ImageSource;
  readonly removal: ImageRemoval;
  readonly pulls: ImagePulls;
  readonly pushes: ImagePushes;
  readonly archives: ImageArchives;
  readonly imports: ImageImports;
  readonly distribution: Distribution;
  readonly layers: LayerSupply;
  readonly builtIn: BuiltInImage;
  /** Cancels current work and waits for its end. */
  close(): Promise<void>;
}

/** Layers transferred at a time with each registry. */
const parallelDownloads = 3;
const parallelUploads = 5;

/** Opens the images of a state; see {@link recoverImages}. */
export async function createImages(options: ImagesOptions): Promise<Images> {
  const { state, preparer, clock, storageDriver, registry, defaultPlatform } = options;
  const logger = componentLogger(options.logger, "images");
  const content = await ContentStore.open(path.join(options.stateDirectory, "blobs"));
  const index = new ImageIndex(state);
  const boot = options.boot ?? bootOfMachine();
  const base = {
    state,
    preparer,
    clock,
    logger,
    storageDriver,
    registry,
    defaultPlatform,
    content,
    index,
    configs: new ImageConfigs(),
    retention: new LayerRetention(preparer.unpacking, (diffIds) =>
      state.losses.length > 0 ? [] : layersWithoutUse(state, diffIds),
    ),
    durability: new LayerDurability({ content, index, logger, boot }),
    prepared: new PreparedImages(content, preparer),
    work: new ImageWork({ state, content, index, logger }),
    credentials: new KnownCredentials(options.credentialsFor),
    downloads: new Limiter(parallelDownloads),
    uploads: new Limiter(parallelUploads),
    unpacking: preparer.unpacking,
  };
  const installer = new ImageInstaller(base);
  const disposal = new ImageDisposal(base);
  const catalog = new ImageCatalog(base);
  const supply = new LayerSupply(base);
  const parts = { ...base, installer, disposal, catalog, supply };
  await recoverImages(parts);
  return {
    content,
    catalog,
    containers: new ImagesForContainers(parts),
    removal: new ImageRemoval(parts),
    pulls: new ImagePulls(parts),
    pushes: new ImagePushes(parts),
    archives: new ImageArchives(parts),
    imports: new ImageImports(parts),
    distribution: new Distribution(base.credentials, registry),
    layers: supply,
    builtIn: new BuiltInImage(parts),
    async close() {
      await base.work.close();
      await base.durability.close();
    },
  };
}
