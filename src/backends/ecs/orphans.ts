/** `sockerless gc`: resources of sockerless in AWS that no state knows. */
import type { EcsConfig } from "../../common/config/load.ts";
import type { Known, Orphan } from "../cloud/orphans/orphan.ts";
import { collectOrphans, type CollectRequest, type SearchSurroundings } from "../cloud/orphans/collect.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { AccessPoints } from "./access-points/access-points.ts";
import { type AwsClients, createAwsClients } from "./aws/clients.ts";
import { parseRates } from "./aws/rates.ts";
import { ecrCredentials } from "./ecr/credentials.ts";
import { ecrRepository as repositoryIn } from "./ecr/repository.ts";
import { orphanedAccessPoints } from "./orphans/access-points.ts";
import { orphanedImages } from "../cloud/orphans/images.ts";
import { orphanedGroups } from "./orphans/security-groups.ts";
import { orphanedServices } from "./orphans/services.ts";
import { agentsOfOrphans } from "./agent-finder.ts";
import { SecurityGroups } from "./security-groups/security-groups.ts";
import { ecsTasks, placeOfTasks } from "./tasks/ecs-tasks.ts";

/** Searches for orphans in AWS by {@link collectOrphans}. */
export async function collect(config: EcsConfig, request: CollectRequest): Promise<void> {
  const { region, endpoint, apiRates, cluster, agentCa, logGroup } = config.ecs;
  await collectOrphans(
    config,
    agentCa,
    (surroundings) => {
      const { authority, clock, logger } = surroundings;
      const aws = createAwsClients({
        ...{ region, endpoint, rates: parseRates(apiRates) },
        ...{ clock, logger },
      });
      return {
        tasksOf: (instance) =>
          ecsTasks({ ecs: aws.ecs, cluster, place: placeOfTasks(config.ecs), instance, logGroup }),
        finder: agentsOfOrphans(config.ecs, { authority, clock }),
        orphans: (known) => findOrphans(config, aws, surroundings, known),
        close: () => aws.close(),
      };
    },
    request,
  );
}

async function findOrphans(
  { ecs: config, stateDir, ...common }: EcsConfig,
  aws: AwsClients,
  { instance: own, clock, logger }: SearchSurroundings,
  known: Known,
): Promise<Orphan[]> {
  const { efsFilesystemId, efsSecurityGroupId, cloudMapNamespaceId, ecrRepository } = config;
  const groups = new SecurityGroups({ ec2: aws.ec2, subnet: config.subnets[0] ?? "", clock });
  const found = [await orphanedGroups(groups, efsSecurityGroupId, own, known)];
  if (efsFilesystemId !== undefined) {
    const efs = { efs: aws.efs, fileSystemId: efsFilesystemId, instance: own, clock, logger };
    found.push(await orphanedAccessPoints(new AccessPoints(efs), efsFilesystemId, own, known));
  }
  if (cloudMapNamespaceId !== undefined) {
    found.push(await orphanedServices(aws.serviceDiscovery, cloudMapNamespaceId, own));
  }
  if (ecrRepository !== undefined) {
    const repository = repositoryIn({
      uri: ecrRepository,
      ecr: aws.ecr,
      credentials: ecrCredentials(aws, clock),
      registry: registryOptions(common),
      workDirectory: stateDir,
      instance: own,
    });
    found.push(await orphanedImages(repository, own, known));
  }
  return found.flat();
}
