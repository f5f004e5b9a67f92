/** The backend's calls to tasks' agents. */
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import type { AgentAddress, AgentTarget } from "../../../agent-client/address.ts";
import { type AgentClient, createAgentClient } from "../../../agent-client/client.ts";
import { systemError } from "../../../common/errors.ts";
import type { ExitStatus } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type {
  ContainerRecord,
  SealedContainer,
  SealedImage,
  TaskRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Sealer } from "../authority/seal.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import { sigkill } from "../../model/signals.ts";
import type { AgentFinder, FoundAgent, TaskPlace } from "../contract/agent-finder.ts";
import { agentWaitS } from "./agent-environment.ts";

/** Time limit for the answer of an unknown task's agent. */
const callLimitMs = 5_000;
/** Time limit for the end of a killed process. */
const endLimitMs = 20_000;

/** An agent's report about its container, which the state does not know. */
export interface Described extends FoundAgent {
  /** The record that was sealed last; undefined if it was never started, or its seal is invalid. */
  readonly record: ContainerRecord | undefined;
  /** The sealed images that the record needs. */
  readonly images: readonly SealedImage[];
}

/** How a run has ended, as its agent reports. */
export interface ReportedExit extends FoundExit {
  /** True if its platform stopped it, rather than a user. */
  readonly platformStop: boolean;
}

/** This process's access to agents. */
export class TaskAgents {
  readonly #finder: AgentFinder;
  readonly #authority: Pick<CloudAuthority, "credentialsFor">;
  readonly #sealer: Sealer;

  constructor(finder: AgentFinder, authority: Pick<CloudAuthority, "credentialsFor">, sealer: Sealer) {
    this.#finder = finder;
    this.#authority = authority;
    this.#sealer = sealer;
  }

  /** The address of a task's agent; undefined while unknown. */
  addressOf(task: TaskRecord): AgentAddress | undefined {
    const agent = metAgent(task);
    return agent === undefined ? undefined : this.#finder.addressOf(agent);
  }

  /** The address at which others reach a task's container itself; empty if they cannot. */
  containerAddressOf(task: TaskRecord): string {
    const agent = metAgent(task);
    return agent === undefined ? "" : this.#finder.containerAddressOf(agent);
  }

  /** How to dial a task's agent; undefined while unknown. */
  targetOf(task: TaskRecord): AgentTarget | undefined {
    const address = this.addressOf(task);
    return address === undefined ? undefined : { address, ...this.#optionsFor(task.containerId) };
  }

  /**
   * Assigns a prepared agent to a container.
   *
   * @param record of the container's start, with the name under which it waits
   * @param startTimeoutMs of the container's start
   * @returns the pin of its new key
   * @throws ConnectError
   */
  async claim(
    waiting: FoundAgent,
    {
      prepared: name,
      containerId,
      launchGeneration,
    }: Pick<TaskRecord, "prepared" | "containerId" | "launchGeneration">,
    startTimeoutMs: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const agent = createAgentClient(this.#finder.addressOf(waiting), this.#optionsFor(name));
    try {
      const startTimeoutSeconds = agentWaitS(startTimeoutMs);
      const callToken = this.#sealer.callToken(containerId, launchGeneration);
      return (await agent.client.claim({ containerId, startTimeoutSeconds, callToken }, { signal })).pin;
    } finally {
      agent.close();
    }
  }

  /** Verifies that an agent belongs to a container. @throws ConnectError: it does not answer under that name */
  async greet(containerId: string, found: FoundAgent, signal: AbortSignal): Promise<void> {
    const agent = createAgentClient(this.#finder.addressOf(found), this.#optionsFor(containerId));
    try {
      await agent.client.hello({}, { signal });
    } finally {
      agent.close();
    }
  }

  /** Ends all waits for the agent of a stopped task. */
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
   * Waits until the agent has listed its image's files, which it needs before it starts a process.
   *
   * @returns false if it does not report that
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
   * Releases the agent, so that its task ends.
   *
   * @returns false if it does not answer or does not leave (its container was restarted, or never started)
   */
  async letGo(task: TaskRecord): Promise<boolean> {
    return await this.#call(task, async ({ client }) => {
      await client.release({ generation: task.generation }, { timeoutMs: callLimitMs });
    });
  }

  /**
   * Makes sure that a task's last run has ended, and returns how.
   *
   * @returns undefined if its agent was never told to start, or serves another start
   * @throws ConnectError: the agent does not answer
   */
  async endRun(task: TaskRecord): Promise<ReportedExit | undefined> {
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
   * Asks an unknown container's agent for its record.
   *
   * @throws unavailable: it does not answer
   */
  async describe(containerId: string, place: TaskPlace): Promise<Described> {
    const found = await this.#finder.meet(containerId, place, AbortSignal.timeout(callLimitMs));
    const opened = await this.#sealedBy(containerId, this.#finder.addressOf(found));
    return { ...found, record: opened?.container, images: opened?.images ?? [] };
  }

  /**
   * The number of a later start than a task's record has, which its agent was told to make: the state is older then, as after
   * the restore of a backup.
   *
   * @returns undefined if there is none, or its agent does not answer
   */
  async laterStartOf(task: TaskRecord): Promise<bigint | undefined> {
    const address = this.addressOf(task);
    const opened = address && (await this.#sealedBy(task.containerId, address).catch(() => undefined));
    const generation = opened?.container?.generation ?? 0n;
    return generation > task.generation ? generation : undefined;
  }

  async #sealedBy(containerId: string, address: AgentAddress): Promise<SealedContainer | undefined> {
    const agent = createAgentClient(address, this.#optionsFor(containerId));
    try {
      const sealed = await agent.client
        .describe({}, { timeoutMs: callLimitMs })
        .catch(undefinedIfNeverStarted);
      return sealed === undefined ? undefined : this.#sealer.open(containerId, sealed);
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

/** The agent that has answered for a task; undefined if none has yet. */
function metAgent({ address, agentPin: pin }: TaskRecord): FoundAgent | undefined {
  return address === "" || pin.length === 0 ? undefined : { address, pin };
}

/**
 * Ignores the error of an agent that was never started, as it has nothing to report. Rethrows others: an agent that
 * does not answer now may run a needed container.
 */
function undefinedIfNeverStarted(error: unknown): undefined {
  if (!(error instanceof ConnectError) || error.code !== Code.FailedPrecondition) {
    throw error;
  }
  return undefined;
}

async function endedRun({ client }: AgentClient, generation: bigint): Promise<ReportedExit | undefined> {
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
    if (told !== generation || (started === undefined && failure === undefined)) {
      return undefined; // A later start than a restored state knows is not to be ended.
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
 * How a run has ended, with an end between its reported start and now: an agent's clock may be wrong, and its times
 * forged or invalid.
 */
export function exitOf(
  { code, oomKilled, finishedAt, platformStop }: ExitStatus,
  startedAt: Timestamp | undefined,
): ReportedExit {
  const nowMs = Date.now();
  const startedMs = startedAt === undefined ? 0 : Math.max(0, timestampMs(startedAt));
  const reportedMs = finishedAt === undefined ? nowMs : timestampMs(finishedAt);
  const endedAt = new Date(Math.min(Math.max(reportedMs, startedMs), nowMs));
  return { code, oomKilled, finishedAt: endedAt, platformStop };
}
