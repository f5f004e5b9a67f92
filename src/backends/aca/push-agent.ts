/** `sockerless aca push-agent`: the agent's image in ACR. */
import { systemClock } from "../../common/clock.ts";
import type { AcaConfig } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import { processLogger } from "../../common/logger.ts";
import { builtPrograms } from "../../common/built-programs.ts";
import { type PushedAgent, pushAgentImage } from "../cloud/images/agent-image.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { createAzureClients } from "./arm/clients.ts";
import { parseRates } from "./arm/rates.ts";
import { acaRepository, registrySetting } from "./images.ts";
import { repositoryPath } from "./platform.ts";

/**
 * Builds an image of only the agent and pushes it to `aca.registry_server`, under this version's tag.
 *
 * @param agentFile an agent for amd64; default: the one built with this sockerless
 * @throws invalid: no registry is configured, or the agent is not for amd64; system: the registry's refusal
 */
export async function pushAgent(
  config: AcaConfig,
  agentFile: string = builtPrograms.agent,
): Promise<PushedAgent> {
  const { registryServer, registryUsername, registryPassword, subscriptionId, endpoint, apiRates } =
    config.aca;
  if (registryServer === undefined) {
    throw invalid(`push-agent needs ${registrySetting}: the registry that the agent's image is put into`);
  }
  const clock = systemClock;
  const logger = processLogger(config, "push-agent");
  const azure = createAzureClients({ subscriptionId, endpoint, rates: parseRates(apiRates), clock, logger });
  return await pushAgentImage(agentFile, "amd64", (workDirectory) =>
    acaRepository({
      ...{ azure, registryServer, registryUsername, registryPassword, repositoryPath, workDirectory, clock },
      registry: registryOptions(config),
      instance: "", // Only used for containers' images, of which there are none here.
    }),
  );
}
