import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { cloudDriver } from "../../src/backends/cloud/driver.ts";
import { createSealer } from "../../src/backends/cloud/authority/seal.ts";
import { openState } from "../../src/backends/state/state.ts";
import { ecsAgents } from "../../src/backends/ecs/agent-finder.ts";
import { createAwsClients } from "../../src/backends/ecs/aws/clients.ts";
import { ecsPlatform } from "../../src/backends/ecs/platform.ts";
import { pushAgent } from "../../src/backends/ecs/push-agent.ts";
import { systemClock } from "../../src/common/clock.ts";
import { type EcsConfig, loadConfig } from "../../src/common/config/load.ts";
import { createLogger } from "../../src/common/logger.ts";
import { type Aws, startAws } from "../simulators/aws/aws.ts";
import { contractRegistry, makeContractImage } from "./contract-image.ts";
import type { DriverUnderTest } from "./driver-contract.ts";

/**
 * The driver over a simulated account.
 *
 * @param settings makes what is other in the `ecs:` section
 */
export async function ecsDriver(
  settings: (aws: Aws) => Promise<Readonly<Record<string, unknown>>> = async () => ({}),
): Promise<DriverUnderTest> {
  const directory = await mkdtemp(path.join(tmpdir(), "skl-ecs-driver-"));
  const aws = await startAws();
  Object.assign(process.env, {
    AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
  });
  const whole = configOf(directory, { ...aws.config, ...(await settings(aws)) });
  const config = whole.ecs;
  const logger = createLogger({ level: "error", process: "test" });
  const clock = systemClock;
  const clients = createAwsClients({
    ...config,
    endpoint: aws.endpoint,
    rates: {},
    clock,
    logger,
  });
  const key = await readAuthority(config.agentCa);
  const authority = await createAuthority(key, clock);
  await pushAgent(whole);
  const state = await openState({ directory, clock });
  const agents = await ecsAgents({ config, aws: clients, authority, clock, logger, runDir: directory });
  const platform = ecsPlatform({
    ...{ config, aws: clients, agents, authority, state, clock, logger },
    registry: contractRegistry,
    stateDir: directory,
  });
  const driver = cloudDriver({
    platform,
    section: config,
    authority,
    sealer: createSealer(key.secret),
    imageDocuments: () => Promise.resolve(undefined),
    stored: {
      isLogKept: true,
      socket: path.join(directory, "stored.sock"),
      applyStaged: async () => {},
      settleStaged: async () => {},
      drain: async () => {},
      leaveToCloud: async () => {},
      remove: async () => {},
    },
    state,
    clock,
    logger,
  });
  const { images, image } = await makeContractImage({ driver, state, stateDirectory: directory, logger });
  return {
    driver,
    image,
    close: async () => {
      await images.close();
      await driver.close();
      await agents.close();
      await state.close();
      await aws.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function configOf(directory: string, settings: Readonly<Record<string, unknown>>): EcsConfig {
  const given = { ...settings, agent_ca: path.join(directory, "agent-ca.pem") };
  const flags = Object.fromEntries(Object.entries(given).map(([name, value]) => [`ecs.${name}`, value]));
  const { config } = loadConfig({ command: "backend", backend: "ecs", flags, environment: {}, uid: 0 });
  if (config.backend !== "ecs") {
    throw new Error("the configuration is another backend's");
  }
  return config;
}
