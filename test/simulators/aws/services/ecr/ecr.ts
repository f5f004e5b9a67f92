/** ECR. */
import type {
  BatchCheckLayerAvailabilityCommandInput,
  BatchCheckLayerAvailabilityCommandOutput,
  BatchDeleteImageCommandInput,
  BatchDeleteImageCommandOutput,
  BatchGetImageCommandInput,
  BatchGetImageCommandOutput,
  CreateRepositoryCommandInput,
  CreateRepositoryCommandOutput,
  DeleteRepositoryCommandInput,
  DeleteRepositoryCommandOutput,
  DescribeImagesCommandInput,
  DescribeImagesCommandOutput,
  DescribeRepositoriesCommandInput,
  DescribeRepositoriesCommandOutput,
  GetAuthorizationTokenCommandInput,
  GetAuthorizationTokenCommandOutput,
  ImageFailureCode,
  ImageIdentifier,
  ListImagesCommandInput,
  ListImagesCommandOutput,
  PutImageCommandInput,
  PutImageCommandOutput,
} from "@aws-sdk/client-ecr";

import type { Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, type Given, operation, type ServiceHandler } from "../../wire/service.ts";
import { type Page, pageOf } from "../pages.ts";
import type { RegistryFront } from "./registry-front.ts";
import type { EcrState, PushedImage, Repository } from "./state.ts";

/** The simulated ECR. */
export function ecrService({ accountId }: Context, state: EcrState, front: RegistryFront): ServiceHandler {
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
    operations: {
      GetAuthorizationToken: operation<GetAuthorizationTokenCommandInput, GetAuthorizationTokenCommandOutput>(
        {
          access: () => [{ action: "ecr:GetAuthorizationToken", resource: "*" }],
          run: (_input, { principal }) => {
            const { password, expiresAt } = state.issueToken(principal);
            const authorizationToken = Buffer.from(`AWS:${password}`).toString("base64");
            return {
              authorizationData: [{ authorizationToken, expiresAt, proxyEndpoint: `http://${front.host}` }],
            };
          },
        },
      ),

      CreateRepository: operation<CreateRepositoryCommandInput, CreateRepositoryCommandOutput>({
        access: ({ repositoryName }) => on("CreateRepository", repositoryName),
        run: ({ repositoryName = "", imageTagMutability }) => ({
          repository: shownRepository(
            state.createRepository(repositoryName, imageTagMutability === "IMMUTABLE"),
          ),
        }),
      }),

      DeleteRepository: operation<DeleteRepositoryCommandInput, DeleteRepositoryCommandOutput>({
        access: ({ repositoryName }) => on("DeleteRepository", repositoryName),
        run: ({ repositoryName = "", force = false }) => ({
          repository: shownRepository(state.deleteRepository(repositoryName, force)),
        }),
      }),

      DescribeRepositories: operation<DescribeRepositoriesCommandInput, DescribeRepositoriesCommandOutput>({
        access: ({ repositoryNames }) =>
          repositoryNames?.flatMap((name) => on("DescribeRepositories", name)) ??
          on("DescribeRepositories", undefined),
        run: ({ repositoryNames, nextToken, maxResults }) => {
          const found = repositoryNames?.map((name) => state.repository(name)) ?? state.repositories();
          const { items, next } = requirePage(found, nextToken, maxResults);
          return { repositories: items.map(shownRepository), nextToken: next };
        },
      }),

      DescribeImages: operation<DescribeImagesCommandInput, DescribeImagesCommandOutput>({
        access: ({ repositoryName }) => on("DescribeImages", repositoryName),
        run: ({ repositoryName = "", imageIds, nextToken, maxResults }) => {
          const repository = state.repository(repositoryName);
          const found = imageIds?.map((identifier) => {
            const image = lookUp(repository, identifier);
            if (image === undefined) {
              const message = `The image with imageId {imageDigest:'${identifier.imageDigest ?? "null"}', imageTag:'${identifier.imageTag ?? "null"}'} does not exist within the repository with name '${repositoryName}' in the registry with id '${accountId}'`;
              throw new AwsFault("ImageNotFoundException", message);
            }
            return image;
          });
          const { items, next } = requirePage(
            found ?? [...repository.images.values()],
            nextToken,
            maxResults,
          );
          const imageDetails = items.map(({ digest, tags, mediaType, manifest, pushedAt }) => ({
            registryId: accountId,
            repositoryName,
            imageDigest: digest,
            ...(tags.size === 0 ? {} : { imageTags: [...tags] }),
            imageSizeInBytes: contentSize(manifest),
            imagePushedAt: pushedAt,
            imageManifestMediaType: mediaType,
          }));
          return { imageDetails, nextToken: next };
        },
      }),

      ListImages: operation<ListImagesCommandInput, ListImagesCommandOutput>({
        access: ({ repositoryName }) => on("ListImages", repositoryName),
        run: ({ repositoryName = "", filter, nextToken, maxResults }) => {
          const all = [...state.repository(repositoryName).images.values()]
            .filter(({ tags }) => filter?.tagStatus !== "TAGGED" || tags.size > 0)
            .filter(({ tags }) => filter?.tagStatus !== "UNTAGGED" || tags.size === 0)
            .flatMap(identifiersOf);
          const { items, next } = requirePage(all, nextToken, maxResults);
          return { imageIds: items, nextToken: next };
        },
      }),

      BatchGetImage: operation<BatchGetImageCommandInput, BatchGetImageCommandOutput>({
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
      }),

      BatchDeleteImage: operation<BatchDeleteImageCommandInput, BatchDeleteImageCommandOutput>({
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
      }),

      BatchCheckLayerAvailability: operation<
        BatchCheckLayerAvailabilityCommandInput,
        BatchCheckLayerAvailabilityCommandOutput
      >({
        access: ({ repositoryName }) => on("BatchCheckLayerAvailability", repositoryName),
        run: async ({ repositoryName = "", layerDigests = [] }) => {
          const { name } = state.repository(repositoryName);
          const layers = await Promise.all(
            layerDigests.map(async (layerDigest) => {
              const layerSize = await front.layerSize(name, layerDigest);
              return layerSize === undefined
                ? { layerDigest, layerAvailability: "UNAVAILABLE" as const }
                : { layerDigest, layerAvailability: "AVAILABLE" as const, layerSize };
            }),
          );
          return { layers, failures: [] };
        },
      }),

      PutImage: operation<PutImageCommandInput, PutImageCommandOutput>({
        access: ({ repositoryName }) => on("PutImage", repositoryName),
        run: async ({
          repositoryName = "",
          imageManifest = "",
          imageManifestMediaType,
          imageTag,
          imageDigest,
        }) => {
          const repository = state.repository(repositoryName);
          const manifest = Buffer.from(imageManifest);
          const mediaType = imageManifestMediaType ?? mediaTypeIn(imageManifest);
          const holder = imageTag === undefined ? undefined : state.image(repository, imageTag);
          const reference = imageTag ?? imageDigest;
          if (mediaType === undefined || reference === undefined) {
            const message = "The manifest needs a media type, and a tag or a digest";
            throw new AwsFault("InvalidParameterException", message);
          }
          const { status, digest, text } = await front.putManifest(
            repository.name,
            reference,
            mediaType,
            manifest,
          );
          if (status !== 201) {
            throw new AwsFault(
              text.includes("BLOB_UNKNOWN") ? "LayersNotFoundException" : "InvalidParameterException",
              text,
            );
          }
          if (holder?.digest === digest) {
            const message = `Image with digest '${digest}' and tag '${imageTag}' already exists in the repository with name '${repositoryName}' in registry with id '${accountId}'`;
            throw new AwsFault("ImageAlreadyExistsException", message);
          }
          if (holder !== undefined && repository.immutableTags) {
            const message = `The image tag '${imageTag}' already exists in the '${repositoryName}' repository and cannot be overwritten because the tag is immutable.`;
            throw new AwsFault("ImageTagAlreadyExistsException", message);
          }
          const image = state.put(repository, { digest, mediaType, manifest }, imageTag);
          return { image: shownImage(accountId, repository, image, imageTag) };
        },
      }),
    },
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

/** Bytes of the configuration and the layers; an index has none of its own. */
function contentSize(manifest: Buffer): number {
  const { config, layers = [] } = JSON.parse(manifest.toString()) as {
    config?: { size?: number };
    layers?: { size?: number }[];
  };
  return [config, ...layers].reduce((sum, each) => sum + (each?.size ?? 0), 0);
}

function mediaTypeIn(manifest: string): string | undefined {
  try {
    return (JSON.parse(manifest) as { mediaType?: string }).mediaType;
  } catch {
    return undefined;
  }
}

/** A hundred a page where the request names no number. */
function requirePage<Item>(
  all: readonly Item[],
  token: string | undefined,
  size: number | undefined,
): Page<Item> {
  const page = pageOf(all, token, size ?? 100);
  if (page === undefined) {
    throw new AwsFault("InvalidParameterException", "Invalid parameter at 'nextToken'");
  }
  return page;
}
