/** Images on Fargate: this backend's own images are in ECR. */
import path from "node:path";

import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logger.ts";
import { cloudImages } from "../cloud/images/cloud-images.ts";
import type { CloudImages } from "../cloud/contract/platform.ts";
import type { RegistryOptions } from "../images/registry/registry.ts";
import type { AwsClients } from "./aws/clients.ts";
import { ecrCredentials, isEcr } from "./ecr/credentials.ts";
import { ecrRepository, repositorySetting } from "./ecr/repository.ts";

/** Settings and dependencies of {@link ecsImages}. */
export interface EcsImagesOptions {
  readonly aws: Pick<AwsClients, "ecr" | "ecrIn">;
  /** URI; if undefined, only pulled images can run. */
  readonly ecrRepository: string | undefined;
  readonly registry: RegistryOptions;
  readonly stateDir: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The images of this backend. @throws invalid: the configured repository is invalid */
export function ecsImages(options: EcsImagesOptions): CloudImages {
  const { aws, ecrRepository: uri, registry, instance, clock, logger } = options;
  const credentials = ecrCredentials(aws, clock);
  const workDirectory = path.join(options.stateDir, "uploads");
  const repository =
    uri === undefined
      ? undefined
      : ecrRepository({ uri, ecr: aws.ecr, credentials, registry, workDirectory, instance });
  return cloudImages({
    repository,
    ...{ setting: repositorySetting, registryName: "ECR", isOwnRegistry: isEcr },
    ...{ credentials, workDirectory, logger },
  });
}
