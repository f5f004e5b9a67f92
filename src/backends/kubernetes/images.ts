/** Images as nodes pull them: those of this backend's own are in the configured registry. */
import path from "node:path";

import type { KubernetesSection } from "../../common/config/load.ts";
import type { Logger } from "../../common/logger.ts";
import { create } from "@bufbuild/protobuf";
import { RegistryAuthSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { CloudImages, StartCheck } from "../cloud/contract/platform.ts";
import { agentImageFault, agentTag } from "../cloud/images/agent-image.ts";
import { cloudImages } from "../cloud/images/cloud-images.ts";
import { OwnRepository, type RepositoryCredentials } from "../cloud/images/own-repository.ts";
import { parseNamed } from "../images/reference.ts";
import type { RegistryOptions } from "../images/registry/registry.ts";

/** The setting that names the registry. */
export const registrySetting = "kubernetes.registry";

/** Settings of the repository. */
export interface RepositoryOptions {
  readonly config: KubernetesSection;
  readonly registry: RegistryOptions;
  /** For files on their way, and nothing else. */
  readonly workDirectory: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
}

/** The repository that nodes pull from; undefined: none is configured. @throws invalid: it is none */
export function kubernetesRepository(options: RepositoryOptions): OwnRepository | undefined {
  const { config, registry, workDirectory, instance } = options;
  if (config.registry === undefined) {
    return undefined;
  }
  const { signal } = new AbortController(); // The registry's silence ends these calls.
  const repository: OwnRepository = new OwnRepository({
    uri: config.registry,
    setting: registrySetting,
    rights: { look: "the right to pull", push: "the right to push" },
    credentials: credentialsOf(config),
    tags: {
      list: () => repository.connected(signal, (connected) => connected.tags(repository.path, signal)),
      // By the tag alone: what others name by their own tags stays.
      remove: (_path, tag) =>
        repository.connected(signal, (connected) =>
          connected.remove(
            `/v2/${repository.path}/manifests/${tag}`,
            `repository:${repository.path}:delete`,
            signal,
          ),
        ),
    },
    registry,
    workDirectory,
    instance,
  });
  return repository;
}

function credentialsOf({ registryUsername, registryPassword }: KubernetesSection): RepositoryCredentials {
  const auth = create(RegistryAuthSchema, {
    username: registryUsername ?? "",
    password: registryPassword ?? "",
  });
  return { get: () => Promise.resolve(auth), forget: () => {} };
}

/** The images of this backend. @throws invalid: the configured registry is none */
export function kubernetesImages({
  logger,
  stateDir,
  ...options
}: Omit<RepositoryOptions, "workDirectory"> & {
  readonly logger: Logger;
  readonly stateDir: string;
}): CloudImages {
  const { config } = options;
  const workDirectory = path.join(stateDir, "uploads");
  const domain = config.registry === undefined ? undefined : parseNamed(config.registry).domain;
  return cloudImages({
    repository: kubernetesRepository({ ...options, workDirectory }),
    setting: registrySetting,
    registryName: "configured",
    credentials: credentialsOf(config),
    isOwnRegistry: (host) => host === domain && config.registryUsername !== undefined,
    workDirectory,
    logger,
  });
}

/** The image that brings the agent into pods: the configured one, else the one of this version; undefined: neither is there. */
export function agentImageOf({ agentImage, registry, architecture }: KubernetesSection): string | undefined {
  return agentImage ?? (registry === undefined ? undefined : `${registry}:${agentTag(architecture)}`);
}

/** A check of the agent's image, where it is in the configured registry. */
export function agentImageChecks(options: RepositoryOptions): readonly StartCheck[] {
  const { config } = options;
  const repository = config.agentImage === undefined ? kubernetesRepository(options) : undefined;
  const reference = agentImageOf(config);
  if (repository === undefined || reference === undefined) {
    return [];
  }
  const { architecture } = config;
  return [
    {
      what: "the agent's image",
      async run(signal) {
        const manifest = await repository.manifestOf(agentTag(architecture), signal);
        return await agentImageFault(reference, manifest, architecture, "kubernetes");
      },
    },
  ];
}
