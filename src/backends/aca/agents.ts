import { createHmac } from "node:crypto";
import { join } from "node:path";

import type { AcaConfig } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import { componentLogger } from "../../common/logger.ts";
import type { AgentFinder } from "../cloud/contract/agent-finder.ts";
import { secretProof } from "../cloud/agents/agent-proof.ts";
import { calledAgents } from "../cloud/agents/called-agents.ts";
import { openRelay } from "../cloud/callback/backend-relay.ts";
import { instanceOf } from "../cloud/authority/instance.ts";
import type { CloudSurroundings } from "../cloud/main.ts";
import type { Sealer } from "../cloud/authority/seal.ts";
import type { JobFacts } from "./jobs/job-view.ts";
import type { ContainerJobsOptions } from "./jobs/jobs.ts";
import { parseTask, preparedGeneration } from "./tags.ts";

/** Agents of jobs, which cannot be dialled and call instead. */
export interface AcaAgents {
  readonly finder: AgentFinder;
  /** Address at which they call. */
  readonly callbackUrl: string;
  close(): Promise<void>;
}

/** Dependencies of the wait for agents. */
export interface AcaAgentsOptions extends Omit<CloudSurroundings, "state"> {
  readonly config: AcaConfig;
  /** The job of a task. */
  readonly factsOf: (task: string) => Promise<JobFacts>;
}

/**
 * Waits for agents.
 *
 * @throws invalid: `aca.callback_url` is missing; system: the address for callback agents cannot be bound
 */
export async function acaAgents(options: AcaAgentsOptions): Promise<AcaAgents> {
  const { config, authority, sealer, clock, factsOf } = options;
  const { callbackUrl } = config.aca;
  if (callbackUrl === undefined) {
    throw invalid("configuration: aca.callback_url is required: where containers' agents reach this backend");
  }
  const logger = componentLogger(options.logger, "agents");
  const relay = await openRelay({
    url: callbackUrl,
    listen: config.aca.callbackListen,
    path: join(config.runDir, "agents.sock"),
    instance: instanceOf(authority),
    callKey: sealer.callKey,
    logger,
  });
  const secretOf = callbackSecrets(sealer);
  const proof = secretProof(async (containerId, { task }) => {
    const { prepared, generation } = await factsOf(task);
    const { job } = parseTask(task);
    // A prepared job gets its secret before its container.
    return prepared === undefined
      ? secretOf(containerId, generation, job)
      : secretOf(prepared.name, preparedGeneration, job);
  });
  const parts = { relay, authority, proof, url: callbackUrl, reachOneAnother: false, clock, logger };
  return { finder: calledAgents(parts), callbackUrl, close: () => relay.close() };
}

/** Secrets of agents: a start may have several jobs, and only the last one's agent is accepted. */
export function callbackSecrets({
  callbackSecret,
}: Pick<Sealer, "callbackSecret">): ContainerJobsOptions["secretOf"] {
  return (containerId, generation, job) =>
    createHmac("sha256", callbackSecret(containerId, generation)).update(job).digest("base64url");
}
