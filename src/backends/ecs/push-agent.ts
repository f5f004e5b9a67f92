/** `sockerless ecs push-agent`: the agent's image in ECR. */
import { systemClock } from "../../common/clock.ts";
import type { EcsConfig } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import { processLogger } from "../../common/logger.ts";
import { builtPrograms } from "../../common/built-programs.ts";
import { type PushedAgent, pushAgentImage } from "../cloud/images/agent-image.ts";
import type { OwnRepository } from "../cloud/images/own-repository.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { createAwsClients } from "./aws/clients.ts";
import { parseRates } from "./aws/rates.ts";
import { ecrCredentials } from "./ecr/credentials.ts";
import { ecrRepository } from "./ecr/repository.ts";

/**
 * Builds an image of only the agent and pushes it to `ecs.ecr_repository`, under this version's tag.
 *
 * @param agentFile an agent for the tasks' architecture; undefined for the one built with this sockerless
 * @throws invalid: no repository is configured, or the agent is for another architecture; system: AWS's refusal
 */
export async function pushAgent(
  config: EcsConfig,
  agentFile: string = builtPrograms.agent,
): Promise<PushedAgent> {
  const { ecrRepository: uri, architecture } = config.ecs;
  if (uri === undefined) {
    throw invalid(
      "push-agent needs ecs.ecr_repository: the ECR repository that the agent's image is put into",
    );
  }
  return await pushAgentImage(agentFile, architecture, (directory) => repositoryOf(config, uri, directory));
}

function repositoryOf(config: EcsConfig, uri: string, workDirectory: string): OwnRepository {
  const clock = systemClock;
  const aws = createAwsClients({
    region: config.ecs.region,
    endpoint: config.ecs.endpoint,
    rates: parseRates(config.ecs.apiRates),
    clock,
    logger: processLogger(config, "push-agent"),
  });
  return ecrRepository({
    uri,
    ecr: aws.ecr,
    credentials: ecrCredentials(aws, clock),
    registry: registryOptions(config),
    workDirectory,
    instance: "", // Only used for containers' images, of which there are none here.
  });
}
