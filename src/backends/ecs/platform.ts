import type { Clock } from "../../common/clock.ts";
import type { EcsSection } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { CloudSurroundings } from "../cloud/main.ts";
import { instanceOf } from "../cloud/authority/instance.ts";
import { type ServiceDiscovery, noDiscovery } from "../cloud/contract/service-discovery.ts";
import type { CloudPlatform } from "../cloud/contract/platform.ts";
import { isOnNoNetwork } from "../model/endpoints.ts";
import type { RegistryOptions } from "../images/registry/registry.ts";
import type { AwsClients } from "./aws/clients.ts";
import { CloudMapDiscovery } from "./cloud-map.ts";
import type { AgentSource } from "./definitions/agent-container.ts";
import { agentImageOf } from "./definitions/agent-image.ts";
import { Definitions } from "./definitions/definitions.ts";
import { taskImageOf } from "./ecr/task-image.ts";
import { ecsImages } from "./images.ts";
import { cloudWatchLog } from "./logs/cloudwatch-log.ts";
import { ecsMachine } from "./machine.ts";
import { ecsNetworks } from "./networks.ts";
import { ecsSettings } from "./setting-rules.ts";
import type { EcsAgents } from "./agent-finder.ts";
import { ecsChecks } from "./start-checks.ts";
import { ecsRequests, vcpusOf } from "./tasks/ecs-requests.ts";
import { ecsPreparedTasks } from "./tasks/prepared-tasks.ts";
import { ecsTasks, placeOfTasks } from "./tasks/ecs-tasks.ts";
import { ecsVolumes } from "./volumes.ts";
import { VcpuQuota } from "./vcpu-quota.ts";

/** Parts of the platform, which owns the clients and the access to agents. */
export interface EcsPlatformParts extends CloudSurroundings {
  readonly config: EcsSection;
  readonly aws: AwsClients;
  readonly agents: EcsAgents;
  readonly registry: RegistryOptions;
  readonly stateDir: string;
}

/** The platform AWS, with tasks on Fargate. */
export function ecsPlatform(parts: EcsPlatformParts): CloudPlatform {
  const { config, aws, agents, authority, sealer, state, clock, logger } = parts;
  const instance = instanceOf(authority);
  const discovery = discoveryOf(config, aws, { instance, clock, logger });
  const networks = ecsNetworks({
    ec2: aws.ec2,
    subnets: config.subnets,
    securityGroups: config.securityGroups,
    agentIngress: config.agentIngress,
    callbackPort: agents.callbackPort,
    efsSecurityGroupId: config.efsSecurityGroupId,
    isolation: config.networkIsolation,
    instance,
    discovery,
    clock,
    logger,
  });
  const definitions = new Definitions({
    ecs: aws.ecs,
    instance,
    state,
    clock,
    logger: componentLogger(logger, "tasks"),
  });
  const quotaOf = (spot: boolean): VcpuQuota =>
    new VcpuQuota({
      serviceQuotas: aws.serviceQuotas,
      spot,
      clock,
      logger: componentLogger(logger, "tasks"),
    });
  const quotas = { onDemand: quotaOf(false), spot: quotaOf(true) };
  const asksSpot = config.capacityProvider.endsWith("_SPOT");
  const groupsNeeded = {
    none: () => [...state.containers.values()].some(isOnNoNetwork),
    // Prepared tasks mount volumes too, and agents may come from the file system.
    volumes: () =>
      state.volumes.size > 0 || state.containers.size > 0 || config.agentAccessPointId !== undefined,
  };
  return {
    name: "ecs",
    settings: ecsSettings({
      architecture: config.architecture,
      hasFileSystem: config.efsFilesystemId !== undefined,
      hasDockerSocket: config.innerSocket !== "off",
    }),
    tasks: ecsTasks({
      ...{ ecs: aws.ecs, cluster: config.cluster, place: placeOfTasks(config), instance },
      logGroup: config.logGroup,
    }),
    requests: ecsRequests({
      definitions,
      quotas,
      networks,
      taskImage: (image) => taskImageOf(image, config),
      definition: {
        instance,
        region: config.region,
        logGroup: config.logGroup,
        executionRoleArn: config.executionRoleArn,
        mountRoleArn: mountRoleOf(config),
        architecture: config.architecture,
        agent: agentSourceOf(config),
      },
      run: {
        cluster: config.cluster,
        subnets: config.subnets,
        assignPublicIp: config.assignPublicIp,
        capacityProvider: config.capacityProvider,
        spotFallback: config.spotFallback,
        platformVersion: config.platformVersion,
        taskRoleArn: config.taskRoleArn,
        instance,
        authorityPin: authority.pin,
        startTimeoutMs: config.startTimeout,
        callbackUrl: agents.callbackUrl,
        callToken: sealer.callToken,
      },
    }),
    prepared: ecsPreparedTasks({
      ...{ ecs: aws.ecs, definitions },
      hasGroups: config.networkIsolation === "security-group",
    }),
    finder: agents.finder,
    log: cloudWatchLog({
      logs: aws.logs,
      logGroup: config.logGroup,
      streamsOf: (containerId) => state.tasks.get(containerId)?.logStreams ?? [],
    }),
    discovery,
    images: ecsImages({
      aws,
      ecrRepository: config.ecrRepository,
      instance,
      registry: parts.registry,
      stateDir: parts.stateDir,
      clock,
      logger,
    }),
    networks,
    volumes: ecsVolumes({
      efs: aws.efs,
      fileSystemId: config.efsFilesystemId,
      accessPointLimit: config.efsAccessPointLimit,
      partsLimitMs: config.startTimeout,
      instance,
      clock,
      logger,
    }),
    machine: ecsMachine(config, { quotas, asksSpot, vcpusOf, tasks: () => state.tasks.values() }),
    checks: [
      ...ecsChecks(config, aws, logger),
      {
        what: "the quota of vCPUs",
        run: async (signal) => void (await quotas[asksSpot ? "spot" : "onDemand"].read(signal)),
      },
    ],
    sweeps: [
      { what: "task definitions", run: (signal) => definitions.sweep(signal) },
      {
        what: "the security groups of containers without a network and with volumes",
        run: () => networks.sweep(groupsNeeded),
      },
    ],
    abandon: () => aws.abandon(),
    async close() {
      await Promise.all([networks.close(), discovery.close(), agents.close()]);
      aws.close();
    },
  };
}

function discoveryOf(
  { cloudMapNamespaceId: namespaceId }: EcsSection,
  { serviceDiscovery }: AwsClients,
  options: { readonly instance: string; readonly clock: Clock; readonly logger: Logger },
): ServiceDiscovery {
  return namespaceId === undefined
    ? noDiscovery
    : new CloudMapDiscovery({ serviceDiscovery, namespaceId, ...options });
}

/** @throws invalid: no role for mounting is configured */
function mountRoleOf({ efsIam, taskRoleArn }: EcsSection): string | undefined {
  if (efsIam && taskRoleArn === undefined) {
    throw invalid(
      "configuration: ecs.efs_iam needs ecs.task_role_arn: file systems are mounted with its rights",
    );
  }
  return efsIam ? taskRoleArn : undefined;
}

/** @throws invalid: the source of the agent is not configured */
function agentSourceOf(config: EcsSection): AgentSource {
  if (config.agentAccessPointId !== undefined) {
    if (config.efsFilesystemId === undefined) {
      throw invalid("configuration: ecs.agent_access_point_id needs ecs.efs_filesystem_id");
    }
    return {
      kind: "efs",
      fileSystemId: config.efsFilesystemId,
      accessPointId: config.agentAccessPointId,
    };
  }
  const image = agentImageOf(config);
  if (image === undefined) {
    throw invalid(
      "configuration: nothing brings the agent into a task: set ecs.ecr_repository and run `sockerless ecs push-agent`, or set ecs.agent_image or ecs.agent_access_point_id",
    );
  }
  return { kind: "image", image };
}
