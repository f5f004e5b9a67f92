import type { Clock } from "../../common/clock.ts";
import type { EcsSection } from "../../common/config/load.ts";
import { invalid, unavailable } from "../../common/errors.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { CloudAuthority } from "../common/cloud/authority.ts";
import type { Sealer } from "../common/cloud/seal.ts";
import type { DocumentsOfImage } from "../common/cloud/sealed-container.ts";
import type { Driver, ImagePreparer } from "../common/driver.ts";
import { isOnNoNetwork } from "../common/engine/network/endpoints.ts";
import type { State } from "../common/state/state.ts";
import type { AwsClients } from "./aws/clients.ts";
import { ecsCapabilities } from "./capabilities.ts";
import { CloudMapMirror, type NameMirror } from "./cloud-map.ts";
import type { AgentSource } from "./definitions/agent-container.ts";
import { agentImageOf } from "./definitions/agent-image.ts";
import { Definitions } from "./definitions/definitions.ts";
import { taskImageOf } from "./ecr/task-image.ts";
import { instanceOf } from "./instance.ts";
import { ecsMachine } from "./machine.ts";
import { ecsNetworks } from "./networks.ts";
import { ecsPolicy } from "./policy.ts";
import { keepSweeping } from "./sweeps.ts";
import { Departures } from "./tasks/departures.ts";
import { TaskPoller } from "./tasks/poller.ts";
import { QuotaLines } from "./tasks/quota-lines.ts";
import { TaskAgents } from "./tasks/task-agents.ts";
import { TaskBook } from "./tasks/task-book.ts";
import type { StoredContainers, TaskContext } from "./tasks/task-context.ts";
import { UnansweredRequests } from "./tasks/unanswered-requests.ts";
import { ecsVolumes } from "./volumes.ts";
import { ecsWorkloads } from "./workloads.ts";

/** What the driver is made of; it owns the clients. */
export interface EcsDriverParts {
  readonly config: EcsSection;
  readonly aws: AwsClients;
  readonly authority: CloudAuthority;
  readonly sealer: Sealer;
  readonly imageDocuments: DocumentsOfImage;
  readonly images: ImagePreparer;
  readonly stored: StoredContainers;
  readonly state: State;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How often tasks that linger are looked at. */
const patientPollMs = 5_000;

/** The driver of Fargate tasks. */
export function ecsDriver(parts: EcsDriverParts): Driver {
  const { config, aws, authority, sealer, images, stored, state, clock, logger } = parts;
  const instance = instanceOf(authority);
  const tasksLogger = componentLogger(logger, "tasks");
  const mirror = mirrorOf(parts, instance);
  const networks = ecsNetworks({
    ec2: aws.ec2,
    subnets: config.subnets,
    securityGroups: config.securityGroups,
    agentIngress: config.agentIngress,
    efsSecurityGroupId: config.efsSecurityGroupId,
    isolation: config.networkIsolation,
    instance,
    mirror,
    clock,
    logger,
  });
  const calls = { ecs: aws.ecs, cluster: config.cluster, clock, logger: tasksLogger };
  const poller = new TaskPoller({ ...calls, intervalMs: config.pollInterval });
  const patientPoller = new TaskPoller({
    ...calls,
    intervalMs: Math.max(config.pollInterval, patientPollMs),
  });
  const departures = new Departures({ ...calls, poller, patientPoller });
  const definitions = new Definitions({ ...calls, instance, state });
  const abandoned = new AbortController();
  const context: TaskContext = {
    ...calls,
    abandoned: abandoned.signal,
    authority,
    agents: new TaskAgents(authority, sealer),
    book: new TaskBook(state),
    definitions,
    poller,
    departures,
    quotaLines: new QuotaLines(),
    unanswered: new UnansweredRequests(),
    networks,
    stored,
    mirror,
    taskImage: (image) => taskImageOf(image, config),
    run: {
      cluster: config.cluster,
      subnets: config.subnets,
      assignPublicIp: config.assignPublicIp,
      capacityProvider: config.capacityProvider,
      platformVersion: config.platformVersion,
      taskRoleArn: config.taskRoleArn,
      instance,
      authorityPin: authority.pin,
      startTimeoutMs: config.startTimeout,
      quotaTimeoutMs: config.quotaTimeout,
    },
    definition: {
      instance,
      region: config.region,
      logGroup: config.logGroup,
      executionRoleArn: config.executionRoleArn,
      architecture: config.architecture,
      agent: agentSourceOf(config),
    },
    start: {
      lingerMs: config.linger,
      drainTimeoutMs: config.drainTimeout,
      architecture: config.architecture,
    },
  };
  const hasContainerWithout = (): boolean => [...state.containers.values()].some(isOnNoNetwork);
  const sweeps = keepSweeping(
    [
      { what: "task definitions", run: (signal) => definitions.sweep(signal) },
      {
        what: "the security group of containers without a network",
        run: () => networks.sweep(hasContainerWithout),
      },
    ],
    clock,
    tasksLogger,
  );
  return {
    name: "ecs",
    capabilities: ecsCapabilities,
    policy: { ...ecsPolicy(config.architecture), volumePartsLimitMs: config.startTimeout },
    authority,
    workloads: ecsWorkloads({ context, sealer, imageDocuments: parts.imageDocuments, state }),
    images,
    networks,
    volumes: ecsVolumes({
      efs: aws.efs,
      fileSystemId: config.efsFilesystemId,
      accessPointLimit: config.efsAccessPointLimit,
      instance,
      clock,
      logger,
    }),
    machine: ecsMachine(config),
    abandon() {
      abandoned.abort(unavailable("the backend is shutting down"));
      aws.abandon();
    },
    async close() {
      abandoned.abort(unavailable("the backend is shutting down"));
      await Promise.all([
        sweeps.close(),
        departures.close(),
        poller.close(),
        patientPoller.close(),
        networks.close(),
        mirror?.close(),
      ]);
      aws.close();
    },
  };
}

function mirrorOf({ config, aws, clock, logger }: EcsDriverParts, instance: string): NameMirror | undefined {
  const namespaceId = config.cloudMapNamespaceId;
  return namespaceId === undefined
    ? undefined
    : new CloudMapMirror({ serviceDiscovery: aws.serviceDiscovery, namespaceId, instance, clock, logger });
}

/** @throws invalid: the configuration does not say where the agent comes from */
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
