/**
 * Images for jobs. This backend's own images, and those derived for users other than root, are in the configured
 * registry.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";

import type { Clock } from "../../common/clock.ts";
import { conflict, invalid, messageOf, unlessMissing } from "../../common/errors.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { StartCheck, Sweep } from "../cloud/contract/platform.ts";
import { agentImageFault, agentInImage, agentTag } from "../cloud/images/agent-image.ts";
import { cloudImages } from "../cloud/images/cloud-images.ts";
import { OwnRepository } from "../cloud/images/own-repository.ts";
import type { CloudImages } from "../cloud/contract/platform.ts";
import { hexOf } from "../images/digest.ts";
import { parseImageConfig } from "../images/image-config.ts";
import { parseNamed } from "../images/reference.ts";
import type { RegistryOptions } from "../images/registry/registry.ts";
import { AcrCredentials, isAcr } from "./acr/credentials.ts";
import { DerivedImages } from "./acr/derived-images.ts";
import { importImage } from "./acr/imports.ts";
import { listTags, removeTag } from "./acr/tags.ts";
import type { AzureClients } from "./arm/clients.ts";
import type { JobImages } from "./jobs/job-parts.ts";

/** The setting with the registry's name. */
export const registrySetting = "aca.registry_server";

/** Settings and dependencies of {@link acaRepository}. */
export interface AcaRepositoryOptions {
  readonly azure: Pick<AzureClients, "call" | "credential">;
  /** `name.azurecr.io` */
  readonly registryServer: string;
  readonly registryUsername: string | undefined;
  readonly registryPassword: string | undefined;
  /** Path of the repository in the registry. */
  readonly repositoryPath: string;
  readonly registry: RegistryOptions;
  /** Directory for temporary files only. */
  readonly workDirectory: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  readonly clock: Clock;
}

/** The repository in ACR. @throws invalid: no registry is configured */
export function acaRepository(options: AcaRepositoryOptions): OwnRepository {
  const { registryServer, repositoryPath, registry, workDirectory, instance } = options;
  const { signal } = new AbortController(); // Never aborted: these calls end when the registry does not answer.
  const repository: OwnRepository = new OwnRepository({
    uri: `${registryServer}/${repositoryPath}`,
    setting: registrySetting,
    rights: { look: "the role AcrPush", push: "the role AcrPush" },
    credentials: credentialsOf(options),
    tags: {
      list: () => listTags(repository, signal),
      remove: (_path, tag) => removeTag(repository, tag, signal),
    },
    registry,
    workDirectory,
    instance,
  });
  return repository;
}

function credentialsOf(
  options: Pick<
    AcaRepositoryOptions,
    "azure" | "registryUsername" | "registryPassword" | "registry" | "clock"
  > & {
    readonly registryServer: string | undefined;
  },
): AcrCredentials {
  const { registryServer: server, registryUsername: username, registryPassword: password } = options;
  return new AcrCredentials({ ...options, server, username, password });
}

/** Settings and dependencies of {@link acaImages}. */
export interface AcaImagesOptions
  extends Omit<AcaRepositoryOptions, "registryServer" | "workDirectory" | "azure"> {
  readonly azure: AzureClients;
  /** If undefined, only pulled images can run, and only as root. */
  readonly registryServer: string | undefined;
  readonly subscriptionId: string;
  readonly resourceGroup: string;
  /** Resource ID of the registry; undefined if it is in the resource group and named like its host. */
  readonly registryId: string | undefined;
  /** The image that brings the agent into jobs. */
  readonly agentImage: string;
  /** This backend's images. */
  readonly known: () => Iterable<Pick<ImageRecord, "driverReference">>;
  /** Whether a pending start uses an image, by its reference for jobs. */
  readonly isAsked: (reference: string) => boolean;
  /** The backend's state directory, with the images' configurations. */
  readonly stateDir: string;
  readonly logger: Logger;
}

/** Images, with the details that jobs need. */
export interface AcaImages {
  readonly images: CloudImages;
  /** Images by their references for jobs. */
  readonly forJobs: JobImages;
  readonly sweeps: readonly Sweep[];
  /** Checks of the agent's image, at the backend's start. */
  readonly checks: readonly StartCheck[];
  /** Aborts work in progress. */
  close(): void;
}

/** The images of this backend. @throws invalid: the configured registry is malformed */
export function acaImages(options: AcaImagesOptions): AcaImages {
  const { registryServer, repositoryPath, agentImage, instance, stateDir, clock } = options;
  const logger = componentLogger(options.logger, "images");
  const closed = new AbortController();
  const workDirectory = path.join(stateDir, "uploads");
  const repository =
    registryServer === undefined ? undefined : acaRepository({ ...options, registryServer, workDirectory });
  const derived =
    repository === undefined
      ? undefined
      : new DerivedImages({
          repository,
          importAs: (source, tag, signal) =>
            importImage(
              { ...options, server: repository.domain, username: options.registryUsername },
              source,
              `${repositoryPath}:${tag}`,
              signal,
            ),
          agentImage,
          instance,
        });
  const common = cloudImages({
    repository,
    ...{ setting: registrySetting, registryName: "ACR", isOwnRegistry: isAcr },
    ...{ credentials: credentialsOf(options), workDirectory, logger: options.logger },
  });

  return {
    images: {
      ...common,
      async discard(image, now) {
        await common.discard(image, now);
        if (now === undefined && derived !== undefined && image.driverReference !== "") {
          await derived.remove(image.driverReference, closed.signal).catch((error: unknown) => {
            logger.warn(
              { err: error, image: image.id },
              `what was derived of a removed image stays in ACR for now: ${messageOf(error)}`,
            );
          });
        }
      },
    },
    async forJobs(image, record, step, phase) {
      const reference = image.driverReference;
      if (reference === "") {
        throw conflict(`image ${image.id} has been removed: a container of it cannot be started any more`);
      }
      const user = (await userOf(image, stateDir)) ?? record.config?.user ?? "";
      if (isRoot(user)) {
        return { reference, agent: undefined };
      }
      if (derived === undefined) {
        throw invalid(
          `image ${image.id} runs as ${user}, and jobs have no setting for users: set ${registrySetting} to a registry in which one that runs as root can be derived from it`,
        );
      }
      const from = new Date(clock.nowMs());
      phase({ name: "image", by: "backend", from });
      const root = await step("Azure's registry has not made an image of it that begins as root", () =>
        derived.ensure(reference, closed.signal),
      );
      phase({ name: "image", by: "backend", from, until: new Date(clock.nowMs()) });
      return { reference: root, agent: agentInImage };
    },
    sweeps:
      derived === undefined
        ? []
        : [
            {
              what: "derived images",
              run: async (signal) => derived.sweep(digestsOf(options.known()), options.isAsked, signal),
            },
          ],
    checks:
      repository === undefined || agentImage !== ownAgentImage(registryServer, repositoryPath)
        ? [] // An image from elsewhere, where this backend has no permission to look.
        : [{ what: "the agent's image", run: (signal) => checkAgentImage(repository, agentImage, signal) }],
    close: () => closed.abort(),
  };
}

/** The image that `sockerless aca push-agent` puts into the registry. */
export function ownAgentImage(registryServer: string | undefined, repositoryPath: string): string {
  return `${registryServer}/${repositoryPath}:${agentTag("amd64")}`;
}

/** Checks that the agent's image is in the repository, and from this build. @returns a problem */
export async function checkAgentImage(
  repository: OwnRepository,
  reference: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const manifest = await repository.manifestOf(agentTag("amd64"), signal);
  return await agentImageFault(reference, manifest, "amd64", "aca");
}

/** Digests of the images as they are pulled. */
function digestsOf(images: Iterable<Pick<ImageRecord, "driverReference">>): ReadonlySet<string> {
  return new Set(
    [...images].flatMap(({ driverReference }) =>
      driverReference === "" ? [] : (parseNamed(driverReference).digest ?? []),
    ),
  );
}

/** An image's user; undefined if its configuration is gone. */
async function userOf({ id }: ImageRecord, stateDir: string): Promise<string | undefined> {
  const config = await readFile(path.join(stateDir, "blobs", "sha256", hexOf(id))).catch(unlessMissing);
  return config && parseImageConfig(config).config.user;
}

/** Whether an image's processes start as root, with any group. */
function isRoot(user: string): boolean {
  return /^(0+|root)?(:|$)/.test(user);
}
