import type { AgentAddress } from "../../../agent-client/address.ts";
import type { AgentReach } from "../../driver/agents.ts";
import type { ContainerTraffic } from "../../driver/networks.ts";

/** An agent that has answered. */
export interface FoundAgent {
  /** Its address, as reported by the cloud. */
  readonly address: string;
  /** SHA-256 of its SubjectPublicKeyInfo. */
  readonly pin: Uint8Array;
}

/** A task, its address and its start. */
export interface TaskPlace {
  /** The cloud's name of the task. */
  readonly task: string;
  /** Its address, as reported by the cloud. */
  readonly address: string;
  /** The start that it was launched for; 0 for a prepared task that no container has. */
  readonly launchGeneration: bigint;
}

/** How to reach tasks' agents: dialled at addresses that the cloud reports, or waited for until they call. */
export interface AgentFinder {
  /** How containers with such agents reach each other. */
  readonly traffic: ContainerTraffic;
  /** How these agents reach each other. */
  readonly agentReach: AgentReach;
  /** The address at which a frontend or backend reaches a known agent, from this call on. */
  addressOf(agent: FoundAgent): AgentAddress;
  /** The address at which others in the cloud reach that agent's container; empty if they cannot. */
  containerAddressOf(agent: FoundAgent): string;
  /**
   * Waits until the agent of a starting task answers.
   *
   * @throws the signal's reason
   */
  await(containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent>;
  /**
   * Connects to an agent that should be running.
   *
   * @throws unavailable: it does not answer
   */
  meet(containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent>;
  /** Notes that its task has stopped: ends waits for its agent to call again. */
  forget(containerId: string, agent: FoundAgent): void;
  /** A clause for messages about an agent that did not answer at its address or did not call, with a possible cause. */
  describeSilence(address: string): string;
}
