/** The last step of creating an image here, from a container or a tar: turns its content into the image. */
import type { NewEvent } from "../state/journal.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { type ImageConfig, parseNewImageConfig } from "./image-config.ts";
import type { ImageInstaller, ImageToInstall, InstalledLayer } from "./image-installer.ts";
import { type ManifestLayer, writeManifest } from "./image-manifest-writer.ts";
import { canonicalString, type NamedReference } from "./reference.ts";

/** A layer of a new image. */
export type MadeLayer = InstalledLayer & ManifestLayer;

/** An image whose layers are in the store. */
export interface MadeImage {
  readonly configBytes: Uint8Array;
  /** Bottom first. */
  readonly layers: readonly MadeLayer[];
  readonly name: NamedReference | undefined;
  /** ID of the parent image. */
  readonly parentId?: string;
  /** See {@link ImageToInstall}. */
  readonly ofBuild?: boolean;
  readonly events: (id: string, config: ImageConfig) => readonly NewEvent[];
}

/** Installs the image under a lease and returns its ID. @throws the driver's error; the signal's reason */
export async function installMadeImage(
  store: ContentStore,
  installer: ImageInstaller,
  lease: BlobLease,
  { configBytes, layers, name, parentId, ofBuild, events }: MadeImage,
  signal: AbortSignal,
): Promise<string> {
  const configBlob = await store.putBytes(lease, configBytes);
  const config = parseNewImageConfig(configBytes);
  const id = configBlob.digest;
  const image: ImageToInstall = {
    id,
    config,
    ...(await writeManifest(store, lease, configBlob, layers)),
    layers,
    hasLayers: true,
    names: name === undefined ? [] : [canonicalString(name)],
    isTagged: true,
    digests: [],
    ...(parentId === undefined ? {} : { parentId }),
    ofBuild: ofBuild === true,
    events: events(id, config),
  };
  await installer.install([image], signal);
  return id;
}
