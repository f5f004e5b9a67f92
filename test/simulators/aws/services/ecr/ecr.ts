/** ECR. */
import type { ImageFailureCode, ImageIdentifier } from "@aws-sdk/client-ecr";

import type { Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { type Given, operations, type ServiceHandler } from "../../wire/service.ts";
import { pagesOf } from "../pages.ts";
import type { EcrFront } from "./registry-front.ts";
import type { EcrState, PushedImage, Repository } from "./state.ts";

/** The simulated ECR. */
export function ecrService({ accountId }: Context, state: EcrState, front: EcrFront): ServiceHandler {
  const on = (action: string, repository: string | undefined): AccessRequest[] => [
    { action: `ecr:${action}`, resource: state.repositoryArn(repository ?? "*") },
  ];

  const shownRepository = ({ name, createdAt, immutableTags }: Repository) => ({
    registryId: accountId,
    repositoryName: name,
    repositoryArn: state.repositoryArn(name),
    repositoryUri: `${front.host}/${name}`,
    createdAt,
    imageTagMutability: immutableTags ? ("IMMUTABLE" as const) : ("MUTABLE" as const),
    imageScanningConfiguration: { scanOnPush: false },
    encryptionConfiguration: { encryptionType: "AES256" as const },
  });

  const identifiersOf = ({ digest, tags }: PushedImage): ImageIdentifier[] =>
    tags.size === 0
      ? [{ imageDigest: digest }]
      : [...tags].map((imageTag) => ({ imageDigest: digest, imageTag }));

  const lookUp = (repository: Repository, identifier: Given<ImageIdentifier>): PushedImage | undefined => {
    const found = state.image(repository, identifier.imageDigest ?? identifier.imageTag ?? "");
    const { imageTag } = identifier;
    return imageTag === undefined || found?.tags.has(imageTag) === true ? found : undefined;
  };

  const notFound = (imageId: Given<ImageIdentifier>) => ({
    imageId,
    failureCode: "ImageNotFound" as ImageFailureCode,
    failureReason: "Requested image not found",
  });

  return {
    name: "ecr",
    codes: {
      invalid: "InvalidParameterException",
      throttled: "ThrottlingException",
      denied: "AccessDeniedException",
      unknownKey: "UnrecognizedClientException",
    },
    operations: operations<typeof import("@aws-sdk/client-ecr")>({
      GetAuthorizationToken: {
        access: () => [{ action: "ecr:GetAuthorizationToken", resource: "*" }],
        run: (_input, { principal }) => {
          const { password, expiresAt } = state.issueToken(principal);
          const authorizationToken = Buffer.from(`AWS:${password}`).toString("base64");
          return {
            authorizationData: [{ authorizationToken, expiresAt, proxyEndpoint: `http://${front.host}` }],
          };
        },
      },

      CreateRepository: {
        access: ({ repositoryName }) => on("CreateRepository", repositoryName),
        run: ({ repositoryName = "", imageTagMutability }) => ({
          repository: shownRepository(
            state.createRepository(repositoryName, imageTagMutability === "IMMUTABLE"),
          ),
        }),
      },

      ListImages: {
        access: ({ repositoryName }) => on("ListImages", repositoryName),
        run: ({ repositoryName = "", filter, nextToken, maxResults }) => {
          const all = [...state.repository(repositoryName).images.values()]
            .filter(({ tags }) => filter?.tagStatus !== "TAGGED" || tags.size > 0)
            .filter(({ tags }) => filter?.tagStatus !== "UNTAGGED" || tags.size === 0)
            .flatMap(identifiersOf);
          const { items, next } = requirePage(all, nextToken, maxResults);
          return { imageIds: items, nextToken: next };
        },
      },

      BatchGetImage: {
        access: ({ repositoryName }) => on("BatchGetImage", repositoryName),
        run: ({ repositoryName = "", imageIds = [] }) => {
          const repository = state.repository(repositoryName);
          const looked = imageIds.map((imageId) => ({ imageId, image: lookUp(repository, imageId) }));
          return {
            images: looked.flatMap(({ imageId, image }) =>
              image === undefined ? [] : [shownImage(accountId, repository, image, imageId.imageTag)],
            ),
            failures: looked.flatMap(({ imageId, image }) =>
              image === undefined ? [notFound(imageId)] : [],
            ),
          };
        },
      },

      BatchDeleteImage: {
        access: ({ repositoryName }) => on("BatchDeleteImage", repositoryName),
        run: ({ repositoryName = "", imageIds = [] }) => {
          const repository = state.repository(repositoryName);
          const deleted: ImageIdentifier[] = [];
          const failures: ReturnType<typeof notFound>[] = [];
          for (const imageId of imageIds) {
            const image = lookUp(repository, imageId);
            if (image === undefined) {
              failures.push(notFound(imageId));
            } else if (imageId.imageTag !== undefined && imageId.imageDigest === undefined) {
              // A tag alone takes the tag away; the image goes with its last.
              image.tags.delete(imageId.imageTag);
              deleted.push({ imageDigest: image.digest, imageTag: imageId.imageTag });
              if (image.tags.size === 0) {
                repository.images.delete(image.digest);
              }
            } else {
              deleted.push(...identifiersOf(image));
              repository.images.delete(image.digest);
            }
          }
          return { imageIds: deleted, failures };
        },
      },
    }),
  };
}

function shownImage(
  registryId: string,
  { name }: Repository,
  { digest, mediaType, manifest }: PushedImage,
  imageTag: string | undefined,
) {
  return {
    registryId,
    repositoryName: name,
    imageId: { imageDigest: digest, ...(imageTag === undefined ? {} : { imageTag }) },
    imageManifest: manifest.toString(),
    imageManifestMediaType: mediaType,
  };
}

/** A hundred a page where the request names no number. */
const requirePage = pagesOf("InvalidParameterException", 100);
