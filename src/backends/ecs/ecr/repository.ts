/** The configured ECR repository. */
import {
  BatchDeleteImageCommand,
  type ECRClient,
  ListImagesCommand,
  type ListImagesCommandOutput,
} from "@aws-sdk/client-ecr";

import {
  OwnRepository,
  type OwnRepositoryOptions,
  type RepositoryTags,
} from "../../cloud/images/own-repository.ts";
import type { AwsService } from "../aws/clients.ts";

/** The setting that names the repository. */
export const repositorySetting = "ecs.ecr_repository";

/** The name of a repository in its registry. @param uri `REGISTRY/NAME` */
export function repositoryNameOf(uri: string): string {
  return uri.slice(uri.indexOf("/") + 1);
}

/** Settings and dependencies of {@link ecrRepository}. */
export type EcrRepositoryOptions = Omit<OwnRepositoryOptions, "setting" | "tags" | "rights"> & {
  readonly ecr: AwsService<ECRClient>;
};

/** A repository in ECR. @throws invalid: no repository is configured */
export function ecrRepository({ ecr, ...options }: EcrRepositoryOptions): OwnRepository {
  return new OwnRepository({
    ...options,
    setting: repositorySetting,
    tags: ecrTags(ecr),
    rights: { look: "ecr:BatchCheckLayerAvailability" },
  });
}

function ecrTags(ecr: AwsService<ECRClient>): RepositoryTags {
  return {
    async list(repositoryName) {
      const found: string[] = [];
      let nextToken: string | undefined;
      do {
        const page: ListImagesCommandOutput = await ecr.send(
          new ListImagesCommand({ repositoryName, filter: { tagStatus: "TAGGED" }, nextToken }),
        );
        found.push(...(page.imageIds ?? []).map(({ imageTag = "" }) => imageTag));
        nextToken = page.nextToken;
      } while (nextToken !== undefined);
      return found;
    },
    async remove(repositoryName, imageTag) {
      await ecr.send(new BatchDeleteImageCommand({ repositoryName, imageIds: [{ imageTag }] }));
    },
  };
}
