/**
 * Images as tasks run them. One that was pulled runs from the registry that it came from, and nothing of it is fetched
 * here but manifest and configuration; one that was loaded, imported or committed is put into the configured ECR
 * repository.
 */
import path from "node:path";

import type { ECRClient } from "@aws-sdk/client-ecr";

import type { Clock } from "../../common/clock.ts";
import { invalid, messageOf } from "../../common/errors.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../common/driver.ts";
import { parseNamed, repositoryName } from "../common/images/reference.ts";
import type { Credentials } from "../common/images/registry/credentials.ts";
import type { RegistryOptions } from "../common/images/registry/registry.ts";
import type { AwsService } from "./aws/clients.ts";
import { EcrCredentials, isEcr } from "./ecr/credentials.ts";
import { clearUploads, EcrRepository } from "./ecr/repository.ts";

/** What images are prepared with. */
export interface EcsImagesOptions {
  readonly ecr: AwsService<ECRClient>;
  /** URI; undefined: only images that were pulled can run. */
  readonly ecrRepository: string | undefined;
  readonly registry: RegistryOptions;
  readonly stateDir: string;
  /** Of this sockerless. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Images, and credentials for the registries that this backend knows itself. */
export interface EcsImages extends ImagePreparer {
  /** For a pull without credentials; undefined: none are known for the host. */
  credentialsFor(domain: string): Promise<Credentials | undefined>;
}

/** The images of this backend. @throws invalid: the configured repository is none */
export function ecsImages(options: EcsImagesOptions): EcsImages {
  const { ecr, ecrRepository: uri, registry, clock } = options;
  const logger = componentLogger(options.logger, "images");
  const credentials = new EcrCredentials({ ecr, clock });
  const workDirectory = path.join(options.stateDir, "uploads");
  const repository =
    uri === undefined
      ? undefined
      : new EcrRepository({
          uri,
          ecr,
          credentials,
          registry,
          workDirectory,
          instance: options.instance,
        });
  const cleared = clearUploads(workDirectory);
  cleared.catch((error: unknown) => logger.warn({ err: error }, "files of an upload are left behind"));

  return {
    needsLayers: false,

    async prepare(image, blobPath, signal) {
      if (!isHere(image)) {
        return image.driverReference === "" ? pulledReference(image) : image.driverReference;
      }
      if (image.driverReference !== "" && repository?.holds(image.driverReference) !== true) {
        return image.driverReference; // Its layers were fetched after all; tasks pull it where it came from.
      }
      if (repository === undefined) {
        throw invalid(
          "tasks cannot run an image that is only here: set ecs.ecr_repository to a repository that it can be put into",
        );
      }
      await cleared.catch(() => undefined);
      return await repository.putImage(image, blobPath, signal);
    },

    async discard(image) {
      if (repository?.holds(image.driverReference) === true) {
        await repository.removeImage(image).catch((error: unknown) => {
          logger.warn(
            { err: error, image: image.id },
            `a removed image stays in the ECR repository: ${messageOf(error)}`,
          );
        });
      }
    },

    forget: () => Promise.resolve(),
    known: () => Promise.resolve([]),

    async credentialsFor(domain) {
      return isEcr(domain) || domain === repository?.domain ? await credentials.get() : undefined;
    },
  };
}

/** Whether the image's layers are in the content store; one without layers came from a registry or did not. */
function isHere({ layerSizes, diffIds, digests }: ImageRecord): boolean {
  return diffIds.length === 0 ? digests.length === 0 : layerSizes.length === diffIds.length;
}

/** The image of the platform that was pulled, where it was pulled from. */
function pulledReference({ digests, manifestDigest }: ImageRecord): string {
  const [first] = digests;
  return first === undefined ? "" : `${repositoryName(parseNamed(first))}@${manifestDigest}`;
}
