import type { EcsConfig } from "../../common/config/load.ts";
import type { HeldSockets } from "../../common/held-sockets.ts";
import type { RunningService } from "../../common/running-service.ts";
import { startCloudBackend } from "../cloud/main.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { ecsAgents } from "./agent-finder.ts";
import { createAwsClients } from "./aws/clients.ts";
import { parseRates } from "./aws/rates.ts";
import { ecsPlatform } from "./platform.ts";

/** Starts the ECS backend by {@link startCloudBackend}. */
export function startBackend(
  config: EcsConfig,
  signal: AbortSignal,
  sockets?: HeldSockets,
): Promise<RunningService> {
  const { ecs } = config;
  return startCloudBackend(
    {
      config,
      section: ecs,
      async platform(surroundings) {
        const { clock, logger } = surroundings;
        const aws = createAwsClients({
          region: ecs.region,
          endpoint: ecs.endpoint,
          rates: parseRates(ecs.apiRates),
          clock,
          logger,
        });
        const agents = await ecsAgents({ ...surroundings, config: ecs, aws, runDir: config.runDir });
        const registry = registryOptions(config);
        const parts = { ...surroundings, config: ecs, aws, agents, registry, stateDir: config.stateDir };
        try {
          return ecsPlatform(parts);
        } catch (error) {
          await agents.close();
          throw error;
        }
      },
    },
    signal,
    sockets,
  );
}
