import type { AgentAddress } from "../../../agent-client/address.ts";
import type { AgentReach } from "../../driver/agents.ts";
import type { ContainerTraffic } from "../../driver/networks.ts";

/** An agent that has answered. */
export interface FoundAgent {
  /** Address at which it was met, as the cloud tells it. */
  readonly address: string;
  /** SHA-256 of its SubjectPublicKeyInfo. */
  readonly pin: Uint8Array;
}

/** A task and its address. */
export interface TaskPlace {
  /** The cloud's name of the task. */
  readonly task: string;
  /** Its address, as the cloud tells it. */
  readonly address: string;
}

/** How the agents of tasks are reached: dialled at addresses that the cloud tells, or waited for until they call in. */
export interface AgentFinder {
  /** How containers whose agents are reached so reach one another. */
  readonly traffic: ContainerTraffic;
  /** How these agents reach one another. */
  readonly agentReach: AgentReach;
  /** The address at which a frontend or backend reaches an agent that was met. */
  addressOf(agent: FoundAgent): AgentAddress;
  /** The address at which others in the cloud reach that agent's container; empty: they do not. */
  containerAddressOf(agent: FoundAgent): string;
  /**
   * Waits until the agent of a task that is coming up answers.
   *
   * @throws the signal's reason
   */
  await(containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent>;
  /**
   * Meets an agent that should be there.
   *
   * @throws unavailable: it does not answer
   */
  meet(containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent>;
  /** Its task has stopped: whoever waits for its agent to call again hears so. */
  forget(containerId: string, agent: FoundAgent): void;
  /**
   * A clause for an agent that was awaited in vain: that it does not answer at this address, or has not called, and
   * why that may be.
   */
  describeSilence(address: string): string;
}
