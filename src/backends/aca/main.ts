import type { AcaConfig } from "../../common/config/load.ts";
import type { HeldSockets } from "../../common/held-sockets.ts";
import type { RunningService } from "../../common/running-service.ts";
import { TaskPhase } from "../../gen/sockerless/state/v1/state_pb.ts";
import { instanceOf } from "../cloud/authority/instance.ts";
import { type CloudSurroundings, startCloudBackend } from "../cloud/main.ts";
import type { CloudPlatform } from "../cloud/contract/platform.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { acaAgents, callbackSecrets } from "./agents.ts";
import { createAzureClients } from "./arm/clients.ts";
import { parseRates } from "./arm/rates.ts";
import { IdleJobs, isOf } from "./jobs/idle-jobs.ts";
import { parseRequest } from "./jobs/job-requests.ts";
import { ContainerJobs } from "./jobs/jobs.ts";
import { acaPlatform, environmentIdOf } from "./platform.ts";

/** Starts the ACA backend by {@link startCloudBackend}. */
export function startBackend(
  config: AcaConfig,
  signal: AbortSignal,
  sockets?: HeldSockets,
): Promise<RunningService> {
  const section = { ...config.aca, architecture: "amd64" } as const;
  const platform = (surroundings: CloudSurroundings): Promise<CloudPlatform> =>
    acaPlatformOf(config, surroundings);
  return startCloudBackend({ config, section, platform }, signal, sockets);
}

/** The platform of a configuration, which owns what it opens. @throws invalid: a setting is missing */
export async function acaPlatformOf(
  config: AcaConfig,
  surroundings: CloudSurroundings,
): Promise<CloudPlatform> {
  const { aca, stateDir } = config;
  const { authority, sealer, state, clock, logger } = surroundings;
  const azure = createAzureClients({
    subscriptionId: aca.subscriptionId,
    endpoint: aca.endpoint,
    rates: parseRates(aca.apiRates),
    clock,
    logger,
  });
  const idleJobs = new IdleJobs({
    jobs: () => jobs,
    recordOf: (containerId, job) =>
      containerId === ""
        ? [...state.tasks.values()].find((task) => task.task !== "" && isOf(task, job))
        : state.tasks.get(containerId),
    clock,
    logger,
  });
  const jobs = new ContainerJobs({
    azure,
    resourceGroup: aca.resourceGroup,
    environmentId: environmentIdOf(aca),
    instance: instanceOf(authority),
    secretOf: callbackSecrets(sealer),
    registryPassword: aca.registryPassword,
    containerTimeMs: aca.replicaTimeout,
    isOnBooks: (job) => [...state.tasks.values()].some((task) => task.task !== "" && isOf(task, job)),
    environmentOf(job) {
      const record = [...state.tasks.values()].find(
        (task) => task.phase === TaskPhase.SERVING && task.request !== "" && isOf(task, job),
      );
      return record && parseRequest(record.request).job.environmentId;
    },
    isContainer: (containerId) => state.tasks.get(containerId) !== undefined,
    ended: (job, containerId) => idleJobs.ended(job, containerId),
    failed: (job, containerId) => idleJobs.failed(job, containerId),
    clock,
    logger,
  });
  const agents = await acaAgents({
    ...surroundings,
    config,
    factsOf: (task) => jobs.factsOf(task),
  });
  try {
    const registry = registryOptions(config);
    return acaPlatform({ ...surroundings, config: aca, azure, jobs, idleJobs, agents, registry, stateDir });
  } catch (error) {
    await agents.close();
    throw error;
  }
}
