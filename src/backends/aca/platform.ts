import path from "node:path";

import type { AcaSection } from "../../common/config/load.ts";
import { conflict, invalid } from "../../common/errors.ts";
import { agentTag } from "../common/cloud/images/agent-image.ts";
import { cloudImages } from "../common/cloud/images/cloud-images.ts";
import { instanceOf } from "../common/cloud/instance.ts";
import type { CloudSurroundings } from "../common/cloud/main.ts";
import { noMirror } from "../common/cloud/name-mirror.ts";
import type { CloudPlatform } from "../common/cloud/platform.ts";
import type { CloudLog } from "../common/cloud/stored/stored-service.ts";
import type { NetworkFabric, VolumeStore } from "../common/driver.ts";
import { neverShort, nothingFound, partsReady } from "../common/ready-made-roles.ts";
import type { AcaAgents } from "./agents.ts";
import type { AzureClients } from "./arm/clients.ts";
import { acaCapabilities } from "./capabilities.ts";
import type { IdleJobs } from "./jobs/idle-jobs.ts";
import type { JobImages, JobVolumes } from "./jobs/job-parts.ts";
import { jobRequests } from "./jobs/job-requests.ts";
import type { ContainerJobs } from "./jobs/jobs.ts";
import { acaMachine } from "./machine.ts";
import { acaSettings } from "./settings.ts";
import { acaChecks } from "./start-checks.ts";

/** Parts that the platform is composed of; it owns them. */
export interface AcaPlatformParts extends CloudSurroundings {
  readonly config: AcaSection;
  readonly azure: AzureClients;
  readonly jobs: ContainerJobs;
  readonly idleJobs: IdleJobs;
  readonly agents: AcaAgents;
  readonly stateDir: string;
}

/** Azure: jobs of Container Apps. @throws invalid: a setting is missing */
export function acaPlatform(parts: AcaPlatformParts): CloudPlatform {
  const { config, azure, jobs, idleJobs, agents, authority, logger } = parts;
  return {
    name: "aca",
    capabilities: acaCapabilities,
    settings: acaSettings(),
    tasks: jobs,
    requests: jobRequests({
      images: jobImages,
      volumes: jobVolumes,
      defaultSize: { cpu: Number(config.defaultCpu), memory: config.defaultMemory },
      job: {
        location: config.location,
        environmentId: environmentIdOf(config),
        instance: instanceOf(authority),
        agentImage: agentImageOf(config),
        replicaTimeoutMs: config.replicaTimeout,
        identity: config.identity,
        registry:
          config.registryServer === undefined
            ? undefined
            : { server: config.registryServer, username: config.registryUsername },
        authorityPin: authority.pin,
        startTimeoutMs: config.startTimeout,
        callbackUrl: agents.callbackUrl,
      },
    }),
    finder: agents.finder,
    log: noLog,
    mirror: noMirror,
    images: cloudImages({
      repository: undefined,
      setting: "aca.registry_server",
      registryName: "ACR",
      isOwnRegistry: () => false,
      credentials: {
        get: (domain) => Promise.reject(invalid(`there are no credentials for ${domain}`)),
        forget() {},
      },
      workDirectory: path.join(parts.stateDir, "uploads"),
      logger,
    }),
    networks,
    volumes,
    machine: acaMachine(config),
    checks: acaChecks(config, azure, logger),
    sweeps: [{ what: "jobs", run: () => idleJobs.sweep() }],
    abandon: () => azure.abandon(),
    async close() {
      azure.abandon();
      await Promise.all([idleJobs.close(), agents.close()]);
    },
  };
}

/** Resource ID of the configured environment. */
export function environmentIdOf(config: AcaSection): string {
  return `/subscriptions/${config.subscriptionId}/resourceGroups/${config.resourceGroup}/providers/Microsoft.App/managedEnvironments/${config.managedEnvironmentName}`;
}

/**
 * The image that brings the agent into jobs: the configured one, else the one of this version in the registry.
 *
 * @throws invalid: neither is configured
 */
export function agentImageOf({ agentImage, registryServer }: AcaSection): string {
  if (agentImage !== undefined) {
    return agentImage;
  }
  if (registryServer === undefined) {
    throw invalid(
      "configuration: nothing brings the agent into a job: set aca.registry_server and run `sockerless aca push-agent`, or set aca.agent_image",
    );
  }
  return `${registryServer}/${repositoryPath}:${agentTag("amd64")}`;
}

/** The repository in `aca.registry_server` for the agent's image and for images that are loaded, imported or committed. */
export const repositoryPath = "sockerless";

const jobImages: JobImages = (image) =>
  image.driverReference === ""
    ? Promise.reject(
        conflict(`image ${image.id} has been removed: a container of it cannot be started any more`),
      )
    : Promise.resolve({ reference: image.driverReference, agent: undefined });

const jobVolumes: JobVolumes = {
  partsOf: () => Promise.resolve({ volumes: [], mounts: [] }),
  unmounted: ({ mounts }) =>
    mounts.filter(({ volume }) => volume !== undefined).map(({ destination }) => destination),
  refuseUnfit() {},
};

const noLog: CloudLog = { lines: nothing, agentLines: nothing };

async function* nothing(): AsyncIterable<never> {}

const networks: NetworkFabric = {
  addressPools: [
    { base: "172.17.0.0/16", size: 16 },
    { base: "172.18.0.0/16", size: 24 },
  ],
  bridgeSettings: "ignore",
  endpointAddresses: "virtual",
  ensure: () => Promise.resolve(""),
  remove: () => Promise.resolve(),
  found: nothingFound,
  connect: () => Promise.resolve(),
  disconnect: () => Promise.resolve(),
  renamed() {},
  usedRoutes: nothingFound,
};

const volumes: VolumeStore = {
  rules: {
    drivers: [{ name: "azure-files", sharing: "shared", content: "here" }],
    usedBy: "running",
    forceOnUsed: "remove",
  },
  parts: partsReady,
  found: nothingFound,
  watchRoom: neverShort,
  create({ anonymous, name }) {
    if (!anonymous) {
      throw invalid(`create ${name}: named volumes are not implemented by the aca backend yet`);
    }
    return Promise.resolve({ reference: "", mountpoint: `/mnt/azure/${name}`, status: {} });
  },
  remove: () => Promise.resolve(),
};
