/** The configured ECR repository. */
import { BatchDeleteImageCommand, type ECRClient, ListImagesCommand } from "@aws-sdk/client-ecr";

import { pagesOf } from "../../cloud/calls/pages.ts";
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
      const input = { repositoryName, filter: { tagStatus: "TAGGED" } } as const;
      const pages = pagesOf(
        (nextToken) => ecr.send(new ListImagesCommand({ ...input, nextToken })),
        (page) => page.nextToken,
      );
      for await (const { imageIds = [] } of pages) {
        found.push(...imageIds.map(({ imageTag = "" }) => imageTag));
      }
      return found;
    },
    async remove(repositoryName, imageTag) {
      await ecr.send(new BatchDeleteImageCommand({ repositoryName, imageIds: [{ imageTag }] }));
    },
  };
}
