/** `sockerless ecs prune`: what sockerless has made in AWS and nobody's state knows. */
import { systemClock } from "../../common/clock.ts";
import type { EcsConfig } from "../../common/config/load.ts";
import { conflict } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import { type CloudAuthority, createAuthority } from "../common/cloud/authority.ts";
import { readAuthority } from "../common/cloud/authority-file.ts";
import { learnPin } from "../common/cloud/first-contact.ts";
import { registryOptions } from "../common/serve-engine.ts";
import { openState, type State } from "../common/state/state.ts";
import { AccessPoints } from "./access-points/access-points.ts";
import { accessPointOf } from "./access-points/reference.ts";
import { agentPort } from "./agent-port.ts";
import { type AwsClients, createAwsClients } from "./aws/clients.ts";
import { parseRates } from "./aws/configured-rates.ts";
import { EcrCredentials } from "./ecr/credentials.ts";
import { EcrRepository } from "./ecr/repository.ts";
import { instanceOf } from "./instance.ts";
import { orphanedAccessPoints } from "./orphans/access-points.ts";
import { orphanedImages } from "./orphans/images.ts";
import type { Known, Orphan } from "./orphans/orphan.ts";
import { orphanedGroups } from "./orphans/security-groups.ts";
import { orphanedServices } from "./orphans/services.ts";
import { orphanedTasks, runningTasks } from "./orphans/tasks.ts";
import { SecurityGroups } from "./security-groups/security-groups.ts";

/** An agent answers in this time, or is told not to. */
const agentLimitMs = 5_000;

/** What is to be done. */
export interface PruneRequest {
  /** Remove what is found; else it is only told. */
  readonly remove: boolean;
  /** Another instance, lost for good, whose things are removed instead of this one's; undefined: this one. */
  readonly instance: string | undefined;
  /** Takes each line of the report. */
  readonly report: (line: string) => void;
}

/**
 * Tells, and removes where that is asked for, what is in AWS and not in the state of this instance. Its backend must not
 * run, and must have run: what of this instance's can be adopted is adopted by its start.
 *
 * @throws conflict: the backend runs, has never run on this state, or the other instance's containers run; AwsError
 */
export async function prune(config: EcsConfig, request: PruneRequest): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const state = await openState({ directory: config.stateDir, clock: systemClock });
  resources.defer(() => state.close());
  if (state.networks.size === 0) {
    throw conflict(
      `no backend has run on the state in ${config.stateDir}: start one first, so that it takes over what is its own`,
    );
  }
  const logger = createLogger({ level: config.logLevel, process: "prune" });
  const authority = await createAuthority(await readAuthority(config.ecs.agentCa), systemClock);
  const own = instanceOf(authority);
  const aws = createAwsClients({
    region: config.ecs.region,
    endpoint: config.ecs.endpoint,
    spot: false,
    rates: parseRates(config.ecs.apiRates),
    clock: systemClock,
    logger,
  });
  resources.defer(() => aws.close());

  const instance = request.instance ?? own;
  if (instance !== own) {
    const running = await runningTasks(aws.ecs, config.ecs.cluster, instance);
    if (running.length > 0) {
      throw conflict(`${running.length} containers of instance ${instance} run: it is not lost`);
    }
  }
  const orphans = await findOrphans(config, aws, authority, knownOf(state));
  for (const orphan of orphans) {
    const wanted = orphan.instance === instance;
    const about = `${orphan.kind} ${orphan.id} (${orphan.purpose}, instance ${orphan.instance || "unknown"})`;
    if (!wanted) {
      request.report(`left: ${about}`);
    } else if (!request.remove) {
      request.report(`found: ${about}`);
    } else {
      const reason = await orphan.remove();
      request.report(reason === undefined ? `removed: ${about}` : `not removed: ${about}: ${reason}`);
    }
  }
}

async function findOrphans(
  { ecs: config, stateDir, ...common }: EcsConfig,
  aws: AwsClients,
  authority: CloudAuthority,
  known: Known,
): Promise<Orphan[]> {
  const clock = systemClock;
  const own = instanceOf(authority);
  const logger = createLogger({ level: common.logLevel, process: "prune" });
  const { efsFilesystemId, efsSecurityGroupId, cloudMapNamespaceId, ecrRepository } = config;
  const groups = new SecurityGroups({ ec2: aws.ec2, subnet: config.subnets[0] ?? "", clock });
  const found = [
    // Tasks first: what they use can be removed only after them.
    await orphanedTasks(aws.ecs, config.cluster, own, known, (containerId, address) =>
      doesAgentAnswer(authority, containerId, address),
    ),
    await orphanedGroups(groups, efsSecurityGroupId, own, known),
  ];
  if (efsFilesystemId !== undefined) {
    const efs = { efs: aws.efs, fileSystemId: efsFilesystemId, instance: own, clock, logger };
    found.push(await orphanedAccessPoints(new AccessPoints(efs), own, known));
  }
  if (cloudMapNamespaceId !== undefined) {
    found.push(await orphanedServices(aws.serviceDiscovery, cloudMapNamespaceId, own));
  }
  if (ecrRepository !== undefined) {
    const repository = new EcrRepository({
      uri: ecrRepository,
      ecr: aws.ecr,
      credentials: new EcrCredentials({ ecr: aws.ecr, clock }),
      registry: registryOptions(common),
      workDirectory: stateDir,
      instance: own,
    });
    found.push(await orphanedImages(repository, own, known));
  }
  return found.flat();
}

async function doesAgentAnswer(
  authority: CloudAuthority,
  containerId: string,
  address: string,
): Promise<boolean> {
  const credentials = await authority.credentialsFor(containerId);
  try {
    await learnPin({ host: address, port: agentPort }, credentials, AbortSignal.timeout(agentLimitMs));
    return true;
  } catch {
    return false;
  }
}

function knownOf(state: State): Known {
  const accessPoints = new Set(
    [...state.volumes.values()].map((volume) => accessPointOf(volume)?.accessPointId),
  );
  return {
    hasVolume: (accessPointId) => accessPoints.has(accessPointId),
    hasNetwork: (networkId) => state.networks.has(networkId),
    hasContainer: (containerId) => state.containers.has(containerId),
    hasImage: (imageId) => state.images.has(imageId),
  };
}
