/** Workloads: containers as a driver creates, finds and removes them. */
import type { AgentAddress } from "../../agent-client/address.ts";
import type { ContainerRecord, SealedImage } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BoundPort, LaunchProgress, Launched } from "./launches.ts";
import type { WorkloadSpec } from "./workload-spec.ts";

/** The end of a workload, according to a record. */
export interface FoundExit {
  readonly code: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Date;
  /** The cause, if it did not end by itself: `State.Error`. */
  readonly error?: string;
}

/** A workload found by `list`. */
export interface FoundWorkload {
  /** The full ID, or the platform's name for an `unanswered` workload that nothing else identifies. */
  readonly containerId: string;
  readonly generation: bigint;
  /** Set while its agent lives, or while its end is still unknown; the agent's Watch reports the rest. */
  readonly agent: AgentAddress | undefined;
  /** Along with the agent, where others reach the container at an address that its endpoints have: that address. */
  readonly address?: string | undefined;
  /** Along with the agent, by `list`: where the machine's networks reach the container. */
  readonly addresses?: readonly string[];
  readonly boundPorts: readonly BoundPort[];
  /** From a durable record of the machine or the cloud, if no agent lives. */
  readonly exit: FoundExit | undefined;
  /** Set if its process was started, however it ended, as a record on the machine shows, or as `find` learns from the cloud. */
  readonly begunAt?: Date;
  /** Exit codes of execs in the record, by exec ID. */
  readonly execExits: ReadonlyMap<string, number>;
  /**
   * The engine's record from the start of the run or the last `Seals.seal`, if the driver can verify it; rebuilds a
   * state that lost the container.
   */
  readonly record?: ContainerRecord;
  /** Along with the record: the container's images, as far as they were stored. */
  readonly images?: readonly SealedImage[];
  /** Set while it runs and its silent agent is the only source about it: it is asked again later. */
  readonly unanswered?: boolean;
  /** Set if a later start than the engine's record runs of a container without a process, and its agent answers: a launch takes it up. */
  readonly laterRuns?: boolean;
  /** Set if its creation was interrupted: no client knows of it, and it holds no user data. */
  readonly unfinished?: boolean;
}

/** Absolute paths; empty if the container has no such file of its own. */
export interface NameFilePaths {
  readonly hostnamePath: string;
  readonly hostsPath: string;
  readonly resolvConfPath: string;
}

export interface Workloads {
  /**
   * Creates what a container needs before its first start: the writable layer, and volume content copied from the
   * image. Starts no process.
   */
  create(spec: WorkloadSpec): Promise<void>;

  /**
   * Starts the workload's agent and waits until it answers; only `AgentService.Start` is then missing. Idempotent by
   * container ID and generation. If the signal aborts, `release` removes what was begun.
   *
   * Kinds: invalid (unknown user or group, missing bind source), system with Docker's wording (port in use),
   * unavailable (no capacity). A {@link LaterStart} has begun nothing.
   */
  launch(spec: WorkloadSpec, signal: AbortSignal, progress: LaunchProgress): Promise<Launched>;

  /**
   * Removes what a run leaves (network, mounts, task), and kills what still runs. The engine calls it after the client
   * has its answer, and launches the container again only afterwards. A driver may keep what the next launch can use,
   * for a bounded time.
   */
  release(containerId: string): Promise<void>;

  /**
   * Paths of a started container's name files on this machine, for an inspect.
   *
   * @param containerOf looks up other containers by full ID; undefined if gone
   */
  nameFilePaths(
    record: ContainerRecord,
    containerOf: (id: string) => ContainerRecord | undefined,
  ): NameFilePaths;

  /** Releases the container, and removes its files and log. */
  remove(containerId: string): Promise<void>;

  /**
   * Calls back once the platform reports, unasked, that a workload's run has ended; at once if it already has. Platforms
   * that report nothing by themselves never call.
   *
   * @returns ends the listening
   */
  onEnd(containerId: string, ended: () => void): () => void;

  /** The external cause that ended a released run, as its exit code does not show it; empty if unknown. */
  interruptionOf(containerId: string): string;

  /** All workloads of this instance, running or not; those that cannot be examined are marked `unanswered`. */
  list(): Promise<readonly FoundWorkload[]>;

  /** One container of `list`; undefined if nothing of it exists. @throws if this container cannot be examined */
  find(containerId: string): Promise<FoundWorkload | undefined>;

  /**
   * The address that serves a container's whole log if its agent has only a part; undefined if the agent has all of it.
   */
  wholeLog(containerId: string): AgentAddress | undefined;

  /** The address that currently serves log and files of a stopped container. */
  stored(containerId: string): AgentAddress;

  /** Waits, for a bounded time, until stopped containers are served again. @throws unavailable */
  storedServed(): Promise<void>;
}
