import { ecsAgents } from "../../src/backends/ecs/agent-finder.ts";
import { createAwsClients } from "../../src/backends/ecs/aws/clients.ts";
import { ecsPlatform } from "../../src/backends/ecs/platform.ts";
import { pushAgent } from "../../src/backends/ecs/push-agent.ts";
import { type Aws, startAws } from "../simulators/aws/aws.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { cloudDriverUnderTest, backendConfigOf } from "./cloud-driver.ts";
import { contractRegistry } from "./contract-image.ts";
import type { DriverUnderTest } from "./driver-contract.ts";

/**
 * The driver over a simulated account.
 *
 * @param settings makes what is other in the `ecs:` section
 */
export async function ecsDriver(
  settings: (aws: Aws) => Promise<Readonly<Record<string, unknown>>> = async () => ({}),
): Promise<DriverUnderTest> {
  const directory = scratchDirectory();
  const resources = new AsyncDisposableStack();
  const aws = resources.use(await startAws());
  Object.assign(process.env, {
    AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
  });
  const whole = backendConfigOf("ecs", directory, { ...aws.config, ...(await settings(aws)) });
  const config = whole.ecs;
  await pushAgent(whole);
  return await cloudDriverUnderTest(resources, {
    directory,
    section: config,
    isLogKept: true,
    platform: async (surroundings) => {
      const { clock, logger } = surroundings;
      const clients = createAwsClients({ ...config, endpoint: aws.endpoint, rates: {}, clock, logger });
      const agents = await ecsAgents({ ...surroundings, config, aws: clients, runDir: directory });
      resources.defer(() => agents.close());
      return ecsPlatform({
        ...surroundings,
        ...{ config, aws: clients, agents },
        registry: contractRegistry,
        stateDir: directory,
      });
    },
  });
}
