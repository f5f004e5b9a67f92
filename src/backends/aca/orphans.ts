/** `sockerless gc`: resources of sockerless in Azure that no state knows. */
import type { AcaConfig } from "../../common/config/load.ts";
import { messageOf, unavailable } from "../../common/errors.ts";
import { orphanedImages } from "../cloud/orphans/images.ts";
import type { Known, Orphan } from "../cloud/orphans/orphan.ts";
import { collectOrphans, type CollectRequest, type SearchSurroundings } from "../cloud/orphans/collect.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { shortId } from "../../common/ids.ts";
import { type AzureClients, createAzureClients } from "./arm/clients.ts";
import { parseRates } from "./arm/rates.ts";
import { acaRepository } from "./images.ts";
import { ContainerJobs } from "./jobs/jobs.ts";
import { environmentIdOf, repositoryPath } from "./platform.ts";
import type { AzureFiles } from "./shares/azure-files.ts";
import { configuredFiles } from "./shares/configured-files.ts";
import { instanceOfShare, volumeOfShare } from "./shares/metadata.ts";
import { formatShare } from "./shares/reference.ts";

/** Searches for orphans in Azure by {@link collectOrphans}. */
export async function collect(config: AcaConfig, request: CollectRequest): Promise<void> {
  const { subscriptionId, endpoint, apiRates, agentCa } = config.aca;
  await collectOrphans(
    config,
    agentCa,
    (surroundings) => {
      const { clock, logger } = surroundings;
      const rates = parseRates(apiRates);
      const azure = createAzureClients({ subscriptionId, endpoint, rates, clock, logger });
      const tasksOf = (instance: string): ContainerJobs => jobsOf(config, azure, instance, surroundings);
      return {
        tasksOf,
        finder: {
          meet: () => Promise.reject(unavailable("agents call the backend, and nobody else")),
        },
        orphans: (known) => findOrphans(config, azure, surroundings, known),
        close: () => azure.abandon(),
      };
    },
    request,
  );
}

function jobsOf(
  { aca }: AcaConfig,
  azure: AzureClients,
  instance: string,
  { clock, logger }: Pick<SearchSurroundings, "clock" | "logger">,
): ContainerJobs {
  return new ContainerJobs({
    ...{ azure, instance, clock, logger },
    resourceGroup: aca.resourceGroup,
    environmentId: environmentIdOf(aca),
    secretOf: () => "", // Not used: no job is started here.
    registryPassword: undefined,
    containerTimeMs: aca.replicaTimeout,
    isOnBooks: () => false,
    environmentOf: () => undefined,
    isContainer: () => false,
    ended() {},
    failed() {},
  });
}

async function findOrphans(
  config: AcaConfig,
  azure: AzureClients,
  surroundings: SearchSurroundings,
  known: Known,
): Promise<Orphan[]> {
  const { aca } = config;
  const { instance: own, clock } = surroundings;
  const found = await orphanedJobs(jobsOf(config, azure, own, surroundings), own, known);
  const files = configuredFiles(aca, azure, clock);
  if (files !== undefined) {
    found.push(...(await orphanedShares(files, own, known)));
  }
  if (aca.registryServer !== undefined) {
    const { registryServer, registryUsername, registryPassword } = aca;
    const repository = acaRepository({
      ...{ azure, registryServer, registryUsername, registryPassword, repositoryPath, clock },
      registry: registryOptions(config),
      workDirectory: config.stateDir,
      instance: own,
    });
    found.push(...(await orphanedImages(repository, own, known)));
  }
  return found;
}

/** Idle jobs of any instance whose containers this state does not know. */
export async function orphanedJobs(jobs: ContainerJobs, own: string, known: Known): Promise<Orphan[]> {
  const found: Orphan[] = [];
  for (const { name, containerId, instance } of await jobs.listAll()) {
    if ((instance === own && known.hasContainer(containerId)) || (await jobs.isRunning(name))) {
      continue;
    }
    found.push({
      kind: "job",
      id: name,
      purpose: containerId === "" ? "prepared for a container" : `container ${shortId(containerId)}`,
      instance,
      async remove() {
        await jobs.remove(name);
        return undefined;
      },
    });
  }
  return found;
}

/** Shares of volumes with their content and environment storages. */
async function orphanedShares(files: AzureFiles, own: string, known: Known): Promise<Orphan[]> {
  const found: Orphan[] = [];
  for (const { share, metadata } of await files.listShares()) {
    const volume = volumeOfShare({ account: files.account, share }, metadata);
    const instance = instanceOfShare(metadata) ?? "";
    const isKnown = instance === own && known.hasVolume(formatShare({ account: files.account, share }));
    if (volume === undefined || isKnown) {
      continue;
    }
    found.push({
      kind: "share",
      id: share,
      purpose: `volume ${volume.name}`,
      instance,
      async remove() {
        try {
          await files.removeStorages(share);
          await files.removeShare(share);
          return undefined;
        } catch (error) {
          return messageOf(error);
        }
      },
    });
  }
  return found;
}
