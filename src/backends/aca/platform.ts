import type { AcaSection } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import { TaskPhase } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { CloudPlatform, StartCheck } from "../cloud/contract/platform.ts";
import { instanceOf } from "../cloud/authority/instance.ts";
import type { CloudSurroundings } from "../cloud/main.ts";
import { innerSocketOff, internalNetworks } from "../cloud/ready-made/asked-settings.ts";
import { noDiscovery } from "../cloud/contract/service-discovery.ts";
import type { RegistryOptions } from "../images/registry/registry.ts";
import type { AcaAgents } from "./agents.ts";
import type { AzureClients } from "./arm/clients.ts";
import { acaImages, ownAgentImage } from "./images.ts";
import type { IdleJobs } from "./jobs/idle-jobs.ts";
import { type JobSettings, mainContainerName } from "./jobs/job.ts";
import { jobRequests } from "./jobs/job-requests.ts";
import type { ContainerJobs } from "./jobs/jobs.ts";
import { preparedJobs } from "./jobs/prepared-jobs.ts";
import { logAnalyticsLog } from "./logs/log-analytics.ts";
import { acaMachine } from "./machine.ts";
import { acaNetworks } from "./networks.ts";
import { acaSettings } from "./settings.ts";
import { configuredFiles } from "./shares/configured-files.ts";
import type { AzureFiles } from "./shares/azure-files.ts";
import { acaChecks } from "./start-checks.ts";
import { acaVolumes, unsharedVolumes } from "./volumes.ts";

/** Parts of the platform, which owns them. */
export interface AcaPlatformParts extends CloudSurroundings {
  readonly config: AcaSection;
  readonly azure: AzureClients;
  readonly jobs: ContainerJobs;
  readonly idleJobs: IdleJobs;
  readonly agents: AcaAgents;
  readonly registry: RegistryOptions;
  readonly stateDir: string;
}

/** The platform Azure, with jobs of Container Apps. @throws invalid: a setting is missing */
export function acaPlatform(parts: AcaPlatformParts): CloudPlatform {
  const { config, azure, jobs, idleJobs, agents, authority, sealer, state, clock, logger } = parts;
  const instance = instanceOf(authority);
  const defaultSize = { cpu: Number(config.defaultCpu), memory: config.defaultMemory };
  const agentImage = agentImageOf(config);
  if (agentImage === undefined) {
    throw invalid(
      "configuration: nothing brings the agent into a job: set aca.registry_server and run `sockerless aca push-agent`, or set aca.agent_image",
    );
  }
  const images = acaImages({
    registryServer: config.registryServer,
    registryUsername: config.registryUsername,
    registryPassword: config.registryPassword,
    subscriptionId: config.subscriptionId,
    resourceGroup: config.resourceGroup,
    registryId: config.registryId,
    ...{ azure, repositoryPath, agentImage, instance, clock, logger },
    registry: parts.registry,
    known: () => state.images.values(),
    isAsked: (reference) =>
      [...state.tasks.values()].some(
        ({ phase, request }) => phase !== TaskPhase.GONE && request.includes(reference),
      ),
    stateDir: parts.stateDir,
  });
  const files = configuredFiles(config, azure, clock);
  const volumes = acaVolumes({
    files,
    dropIdleJobs: () => idleJobs.sweep(),
    ...{ instance, clock, logger },
  });
  return {
    name: "aca",
    settings: acaSettings(
      [
        ...(config.innerSocket === "off" ? [innerSocketOff("aca")] : []),
        { ...unsharedVolumes, isSet: (_host, record) => unsharedVolumes.isSet(record) },
        internalNetworks(state, "a job keeps its way out, through which its agent calls"),
      ],
      defaultSize,
    ),
    tasks: jobs,
    requests: jobRequests({
      images: images.forJobs,
      volumes,
      defaultSize,
      job: jobSettingsOf(config, {
        ...{ instance, agentImage, authorityPin: authority.pin },
        callbackUrl: agents.callbackUrl,
        callToken: sealer.callToken,
      }),
    }),
    prepared: preparedJobs(jobs),
    finder: agents.finder,
    log: logAnalyticsLog({
      azure,
      endpoint: config.logsEndpoint,
      workspaceId: config.logAnalyticsWorkspaceId,
      container: mainContainerName,
      streamsOf: (containerId) => state.tasks.get(containerId)?.logStreams ?? [],
      clock,
    }),
    discovery: noDiscovery,
    images: images.images,
    networks: acaNetworks,
    volumes,
    machine: acaMachine(config, azure, clock),
    checks: [...acaChecks(config, azure, logger), ...keyChecks(files), ...images.checks],
    sweeps: [
      { what: "jobs", run: () => idleJobs.sweep() },
      { what: "storages of volumes that are gone", run: () => volumes.clearLeft() },
      ...images.sweeps,
    ],
    abandon: () => azure.abandon(),
    async close() {
      azure.abandon();
      images.close();
      await Promise.all([idleJobs.close(), agents.close()]);
    },
  };
}

/** Checks the account's key at the backend's start already; see {@link AzureFiles.key}. */
function keyChecks(files: AzureFiles | undefined): readonly StartCheck[] {
  return files === undefined
    ? []
    : [{ what: "the storage account's key", run: () => files.key().then(() => undefined) }];
}

/** Resource ID of the configured environment. */
export function environmentIdOf(config: AcaSection): string {
  return `/subscriptions/${config.subscriptionId}/resourceGroups/${config.resourceGroup}/providers/Microsoft.App/managedEnvironments/${config.managedEnvironmentName}`;
}

/** Settings shared by all jobs. */
export function jobSettingsOf(
  config: AcaSection,
  others: Pick<JobSettings, "instance" | "agentImage" | "authorityPin" | "callbackUrl" | "callToken">,
): JobSettings {
  const { registryServer: server, registryUsername: username } = config;
  return {
    ...others,
    location: config.location,
    environmentId: environmentIdOf(config),
    replicaTimeoutMs: config.replicaTimeout,
    identity: config.identity,
    registry: server === undefined ? undefined : { server, username },
    startTimeoutMs: config.startTimeout,
  };
}

/** The image that brings the agent into jobs: the configured one, else the one of this version in the registry; if any. */
export function agentImageOf({ agentImage, registryServer }: AcaSection): string | undefined {
  return agentImage ?? (registryServer && ownAgentImage(registryServer, repositoryPath));
}

/** The repository in `aca.registry_server` for the agent's image and for images that are loaded, imported or committed. */
export const repositoryPath = "sockerless";
