import { type DialOptions, dialledAgents } from "../common/cloud/agents/dialled-agents.ts";
import type { AgentFinder } from "../common/cloud/agents/agent-finder.ts";

/** Agents of tasks listen on the tasks' network interfaces. */
export function ecsAgentFinder(options: Omit<DialOptions, "hint">): AgentFinder {
  return dialledAgents({ ...options, hint: "do its security groups let this backend in?" });
}
