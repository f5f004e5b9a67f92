/**
 * Images for tasks. A pulled image runs from its own registry, and only its manifest and configuration are fetched
 * here; a loaded, imported or committed one is pushed to the configured repository.
 */
import { invalid, messageOf } from "../../../common/errors.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { parseNamed, repositoryName } from "../../images/reference.ts";
import type { CloudImages } from "../contract/platform.ts";
import { clearUploads, type OwnRepository, type RepositoryCredentials } from "./own-repository.ts";
import { downloadsRelayed, unpackedByPlatform, uploadsRelayed } from "../../driver/ready-made-roles.ts";

/** Dependencies and settings of images. */
export interface CloudImagesOptions {
  /** If undefined, only pulled images can run. */
  readonly repository: OwnRepository | undefined;
  /** The repository's setting, for messages: `<section>.<key>`. */
  readonly setting: string;
  /** The name of the cloud's registry. */
  readonly registryName: string;
  readonly credentials: RepositoryCredentials;
  /** Whether the credentials are for a registry's host. */
  readonly isOwnRegistry: (domain: string) => boolean;
  /** The repository's directory, cleared of files that a killed process left. */
  readonly workDirectory: string;
  readonly logger: Logger;
}

/** The images of a cloud's backend. */
export function cloudImages(options: CloudImagesOptions): CloudImages {
  const { repository, setting, registryName, credentials } = options;
  const logger = componentLogger(options.logger, "images");
  const cleared = clearUploads(options.workDirectory);
  cleared.catch((error: unknown) => logger.warn({ err: error }, "files of an upload are left behind"));

  return {
    keepsOwn: repository !== undefined,
    unpacking: unpackedByPlatform,
    uploads: uploadsRelayed,
    downloads: downloadsRelayed,

    async prepare(image, blobPath, signal) {
      if (!isHere(image)) {
        return image.driverReference === "" ? pulledReference(image) : image.driverReference;
      }
      if (image.driverReference !== "" && repository?.holds(image.driverReference) !== true) {
        return image.driverReference; // Its layers were fetched after all; tasks pull it where it came from.
      }
      if (repository === undefined) {
        throw invalid(
          `tasks cannot run an image that is only here: set ${setting} to a repository that it can be put into`,
        );
      }
      await cleared.catch(() => undefined);
      return await repository.putImage(image, blobPath, signal);
    },

    async discard(image, now) {
      const isHeld = ({ driverReference }: ImageRecord): boolean =>
        repository?.holds(driverReference) === true;
      // Both have the tag of their ID.
      if (repository !== undefined && isHeld(image) && (now === undefined || !isHeld(now))) {
        await repository.removeImage(image).catch((error: unknown) => {
          logger.warn(
            { err: error, image: image.id },
            `a removed image stays in the ${registryName} repository: ${messageOf(error)}`,
          );
        });
      }
    },

    async credentialsFor(domain) {
      return options.isOwnRegistry(domain) || domain === repository?.domain
        ? await credentials.get(domain)
        : undefined;
    },
  };
}

/** Whether the image's layers are in the content store; for one without layers, whether it was not pulled. */
function isHere({ layerSizes, diffIds, digests }: ImageRecord): boolean {
  return diffIds.length === 0 ? digests.length === 0 : layerSizes.length === diffIds.length;
}

/** The pulled image of the platform, by its original reference. */
function pulledReference({ digests, manifestDigest }: ImageRecord): string {
  const [first] = digests;
  return first === undefined ? "" : `${repositoryName(parseNamed(first))}@${manifestDigest}`;
}
