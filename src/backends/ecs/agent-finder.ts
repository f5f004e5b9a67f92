import { join } from "node:path";

import type { EcsSection } from "../../common/config/load.ts";
import { invalid, unavailable } from "../../common/errors.ts";
import { componentLogger } from "../../common/logger.ts";
import type { AgentFinder } from "../cloud/contract/agent-finder.ts";
import { calledAgents } from "../cloud/agents/called-agents.ts";
import { type DialOptions, dialledAgents } from "../cloud/agents/dialled-agents.ts";
import { callbackPortOf, openRelay } from "../cloud/callback/backend-relay.ts";
import { instanceOf } from "../cloud/authority/instance.ts";
import type { CloudSurroundings } from "../cloud/main.ts";
import type { AwsClients } from "./aws/clients.ts";
import { callerProof } from "./caller-proof.ts";

/** Access to tasks' agents. */
export interface EcsAgents {
  readonly finder: AgentFinder;
  /** Address at which agents call; undefined if they are dialled. */
  readonly callbackUrl: string | undefined;
  /** TCP port of that address. */
  readonly callbackPort: number | undefined;
  close(): Promise<void>;
}

/** Dependencies of access to agents. */
export interface EcsAgentsOptions extends Omit<CloudSurroundings, "state"> {
  readonly config: EcsSection;
  readonly aws: Pick<AwsClients, "stsSignedBy">;
  readonly runDir: string;
}

/**
 * Access to agents as configured.
 *
 * @throws invalid: a setting is missing; system: the address for calling agents cannot be bound
 */
export async function ecsAgents(options: EcsAgentsOptions): Promise<EcsAgents> {
  const { config, aws, authority, sealer, clock, runDir } = options;
  if (config.agentMode === "direct") {
    const finder = directAgents({ authority, clock });
    return { finder, callbackUrl: undefined, callbackPort: undefined, close: () => Promise.resolve() };
  }
  const { callbackUrl, taskRoleArn, region } = config;
  if (callbackUrl === undefined) {
    throw invalid(
      "configuration: ecs.agent_mode: callback needs ecs.callback_url: where tasks reach this backend",
    );
  }
  if (taskRoleArn === undefined) {
    throw invalid(
      "configuration: ecs.agent_mode: callback needs ecs.task_role_arn: a task proves by its role which one it is; a role without any right is enough",
    );
  }
  const logger = componentLogger(options.logger, "agents");
  const relay = await openRelay({
    url: callbackUrl,
    listen: config.callbackListen,
    path: join(runDir, "agents.sock"),
    instance: instanceOf(authority),
    callKey: sealer.callKey,
    logger,
  });
  const proof = callerProof({ aws, region, taskRoleArn });
  // Tasks of one network always reach each other directly.
  const parts = { relay, authority, proof, url: callbackUrl, reachOneAnother: true, clock, logger };
  const callbackPort = callbackPortOf(callbackUrl);
  return { finder: calledAgents(parts), callbackUrl, callbackPort, close: () => relay.close() };
}

/** Agents that listen on their tasks' network interfaces. */
function directAgents(options: Omit<DialOptions, "hint">): AgentFinder {
  return dialledAgents({ ...options, hint: "do its security groups let this backend in?" });
}

/** Access to agents for a process that only searches for orphans. */
export function agentsOfOrphans(
  { agentMode }: Pick<EcsSection, "agentMode">,
  options: Omit<DialOptions, "hint">,
): Pick<AgentFinder, "meet"> {
  return agentMode === "direct"
    ? directAgents(options)
    : { meet: () => Promise.reject(unavailable("agents call the backend, and nobody else")) };
}
