/** Calls of the backend to the agents of tasks. */
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import type { AgentAddress, AgentTarget } from "../../../agent-client/address.ts";
import { type AgentClient, createAgentClient } from "../../../agent-client/client.ts";
import { systemError } from "../../../common/errors.ts";
import type { ExitStatus } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord, SealedImage, TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Sealer } from "../authority/seal.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import { sigkill } from "../../model/signals.ts";
import type { AgentFinder, FoundAgent, TaskPlace } from "../contract/agent-finder.ts";

/** A stranger's agent answers in this time, or is left alone. */
const callLimitMs = 5_000;
/** A killed process ends in this time. */
const endLimitMs = 20_000;

/** An agent's account of its own container, which the state does not know. */
export interface Described extends FoundAgent {
  /**
   * The record that was sealed last; undefined: it was never started, or what it handed back is not believed.
   */
  readonly record: ContainerRecord | undefined;
  /** The images that the record needs, as far as they were sealed with it. */
  readonly images: readonly SealedImage[];
}

/** How a run has ended, as its agent tells. */
export interface ToldExit extends FoundExit {
  /** Its platform had told it to stop; nobody here had. */
  readonly platformStop: boolean;
}

/** Agents as this process reaches them. */
export class TaskAgents {
  readonly #finder: AgentFinder;
  readonly #authority: Pick<CloudAuthority, "credentialsFor">;
  readonly #sealer: Sealer;

  constructor(finder: AgentFinder, authority: Pick<CloudAuthority, "credentialsFor">, sealer: Sealer) {
    this.#finder = finder;
    this.#authority = authority;
    this.#sealer = sealer;
  }

  /** The address of a task's agent; undefined while nobody knows it. */
  addressOf(task: TaskRecord): AgentAddress | undefined {
    const agent = metAgent(task);
    return agent === undefined ? undefined : this.#finder.addressOf(agent);
  }

  /** The address at which others reach a task's container itself; empty: they do not. */
  containerAddressOf(task: TaskRecord): string {
    const agent = metAgent(task);
    return agent === undefined ? "" : this.#finder.containerAddressOf(agent);
  }

  /** How a task's agent is reached; undefined while nobody knows. */
  targetOf(task: TaskRecord): AgentTarget | undefined {
    const address = this.addressOf(task);
    return address === undefined ? undefined : { address, ...this.#optionsFor(task.containerId) };
  }

  /** Has nobody wait for the agent of a task that has stopped. */
  forget(task: TaskRecord): void {
    const agent = metAgent(task);
    if (agent !== undefined) {
      this.#finder.forget(task.containerId, agent);
    }
  }

  /** Whether the agent answers. */
  async answers(task: TaskRecord): Promise<boolean> {
    return await this.#call(task, async ({ client }) => {
      await client.hello({}, { timeoutMs: callLimitMs });
    });
  }

  /**
   * Waits until the agent has listed the files of its image, without which it starts no process.
   *
   * @returns false: it does not say that it has
   * @throws the signal's reason
   */
  async awaitFiles(task: TaskRecord, signal: AbortSignal): Promise<boolean> {
    const hasListed = await this.#call(task, async ({ client }) => {
      await client.archiveStat({ path: "/" }, { signal });
    });
    signal.throwIfAborted();
    return hasListed;
  }

  /**
   * Lets the agent go: its task ends now.
   *
   * @returns false where it does not answer, or does not go (its container was started again, or never)
   */
  async letGo(task: TaskRecord): Promise<boolean> {
    return await this.#call(task, async ({ client }) => {
      await client.release({ generation: task.generation }, { timeoutMs: callLimitMs });
    });
  }

  /**
   * Sees to it that a task's last run has ended, and how.
   *
   * @returns undefined: its agent was not told to start
   * @throws ConnectError: the agent does not answer
   */
  async endRun(task: TaskRecord): Promise<ToldExit | undefined> {
    const address = this.addressOf(task);
    if (address === undefined) {
      return undefined;
    }
    const agent = createAgentClient(address, this.#optionsFor(task.containerId));
    try {
      return await endedRun(agent, task.generation);
    } finally {
      agent.close();
    }
  }

  /**
   * Asks the agent of a container that nobody remembers what it was started with.
   *
   * @throws unavailable: it does not answer
   */
  async describe(containerId: string, place: TaskPlace): Promise<Described> {
    const found = await this.#finder.meet(containerId, place, AbortSignal.timeout(callLimitMs));
    const agent = createAgentClient(this.#finder.addressOf(found), this.#optionsFor(containerId));
    try {
      const sealed = await agent.client.describe({}, { timeoutMs: callLimitMs }).catch(undefinedIfNew);
      const opened = sealed === undefined ? undefined : this.#sealer.open(containerId, sealed);
      return { ...found, record: opened?.container, images: opened?.images ?? [] };
    } finally {
      agent.close();
    }
  }

  /** @returns whether the call succeeded */
  async #call(task: TaskRecord, call: (agent: AgentClient) => Promise<void>): Promise<boolean> {
    const address = this.addressOf(task);
    if (address === undefined) {
      return false;
    }
    const agent = createAgentClient(address, this.#optionsFor(task.containerId));
    try {
      await call(agent);
      return true;
    } catch {
      return false;
    } finally {
      agent.close();
    }
  }

  #optionsFor(containerId: string) {
    return { containerId, credentials: () => this.#authority.credentialsFor(containerId) };
  }
}

/** The agent that has answered for a task; undefined: none has yet. */
function metAgent({ address, agentPin: pin }: TaskRecord): FoundAgent | undefined {
  return address === "" || pin.length === 0 ? undefined : { address, pin };
}

/**
 * Lets the failure of an agent that was never started pass, as it has nothing to tell. Others are thrown: an
 * agent that does not answer now may run what somebody needs.
 */
function undefinedIfNew(error: unknown): undefined {
  if (!(error instanceof ConnectError) || error.code !== Code.FailedPrecondition) {
    throw error;
  }
  return undefined;
}

async function endedRun({ client }: AgentClient, generation: bigint): Promise<ToldExit | undefined> {
  let startedAt: Timestamp | undefined;
  const signal = AbortSignal.timeout(endLimitMs); // A timeout of the library's would keep the process alive until it is over.
  for await (const { event, generation: told } of client.watch({}, { signal })) {
    if (event.case === "exited") {
      return exitOf(event.value, startedAt);
    }
    if (event.case !== "state") {
      continue;
    }
    const { started, exit, failure } = event.value;
    if (told < generation || (started === undefined && failure === undefined)) {
      return undefined;
    }
    startedAt = started?.startedAt;
    if (exit !== undefined) {
      return exitOf(exit, startedAt);
    }
    if (failure !== undefined) {
      return { code: failure.exitCode, oomKilled: false, finishedAt: new Date(), platformStop: false };
    }
    await client.signal({ signal: sigkill }, { timeoutMs: callLimitMs });
  }
  throw systemError("the agent ended its watch before the container ended");
}

/**
 * How a run has ended: not before its start as its agent tells it, and not later than now. An agent may be wrong about
 * the time, or lie, and tell one that is none.
 */
export function exitOf(
  { code, oomKilled, finishedAt, platformStop }: ExitStatus,
  startedAt: Timestamp | undefined,
): ToldExit {
  const nowMs = Date.now();
  const startedMs = startedAt === undefined ? 0 : Math.max(0, timestampMs(startedAt));
  const toldMs = finishedAt === undefined ? nowMs : timestampMs(finishedAt);
  const endedAt = new Date(Math.min(Math.max(toldMs, startedMs), nowMs));
  return { code, oomKilled, finishedAt: endedAt, platformStop };
}
