/** Workloads: containers as a driver makes, finds and removes them. */
import type { AgentAddress } from "../../agent-client/address.ts";
import type { ContainerRecord, SealedImage } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BoundPort, LaunchProgress, Launched } from "./launches.ts";
import type { WorkloadSpec } from "./workload-spec.ts";

/** The end of a workload as a record tells it. */
export interface FoundExit {
  readonly code: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Date;
  /** The cause of its end, where it did not end by itself: `State.Error`. */
  readonly error?: string;
}

/** A workload found by `list`. */
export interface FoundWorkload {
  /** The full ID, or the platform's own name of a workload that is `unanswered` and of which nobody can tell. */
  readonly containerId: string;
  readonly generation: bigint;
  /** Set while its agent lives, or nobody can tell yet how it ended; the agent's Watch tells the rest. */
  readonly agent: AgentAddress | undefined;
  readonly boundPorts: readonly BoundPort[];
  /** From a durable record of the machine or the cloud, where no agent lives. */
  readonly exit: FoundExit | undefined;
  /** Set where a record of the machine tells that its process was let run, however it ended. */
  readonly begunAt?: Date;
  /** Ends of execs that the record tells, by exec ID. */
  readonly execExits: ReadonlyMap<string, number>;
  /**
   * The engine's record as of the run's begin or the last `Seals.seal`, where the driver can vouch for
   * it: a state that lost the container is rebuilt from it.
   */
  readonly record?: ContainerRecord;
  /** With the record: the container's images, as far as they were kept. */
  readonly images?: readonly SealedImage[];
  /** Set while it runs and its agent, which alone knows what it is, is silent: it is asked again later. */
  readonly unanswered?: boolean;
  /** Set where its creation was cut off: nobody was told of it, and nothing of a user is in it. */
  readonly unfinished?: boolean;
}

/** Absolute paths; empty: the container has no such file of its own. */
export interface NameFilePaths {
  readonly hostnamePath: string;
  readonly hostsPath: string;
  readonly resolvConfPath: string;
}

/** Running containers. */
export interface Workloads {
  /**
   * Makes what a container has before its first start: writable layer, volume
   * content from the image. Nothing runs.
   */
  create(spec: WorkloadSpec): Promise<void>;

  /**
   * Brings the workload to where its agent answers and only `AgentService.Start`
   * is missing. Idempotent by container ID and generation.
   * Kinds: invalid (user or group unknown, bind source missing), system with
   * Docker's wording (port taken), unavailable (no capacity). Whatever it was
   * about when the signal aborts, `release` takes away.
   */
  launch(spec: WorkloadSpec, signal: AbortSignal, progress: LaunchProgress): Promise<Launched>;

  /**
   * Takes away what a run leaves (network, mounts, task), killing what still
   * runs. The engine calls it behind the client's back, and launches the
   * container again only after it. A driver may keep what the next launch can
   * use, for a bounded time.
   */
  release(containerId: string): Promise<void>;

  /**
   * Paths on this machine of the name files of a container that has started, for an inspect.
   *
   * @param containerOf others, by full ID; undefined: gone
   */
  nameFilePaths(
    record: ContainerRecord,
    containerOf: (id: string) => ContainerRecord | undefined,
  ): NameFilePaths;

  /** Release, and the container's files and log. */
  remove(containerId: string): Promise<void>;

  /** The cause from outside that ended a released run, which its exit code does not say; empty: none is known. */
  interruptionOf(containerId: string): string;

  /** Everything of ours that exists, running or not; what cannot be looked at is among it, as `unanswered`. */
  list(): Promise<readonly FoundWorkload[]>;

  /** One container, as `list` has it; undefined: there is nothing of it. @throws a failure to look at it, and at no other */
  find(containerId: string): Promise<FoundWorkload | undefined>;

  /** The place of the whole log of a container whose agent has a part of it; undefined: the agent has it all. */
  wholeLog(containerId: string): AgentAddress | undefined;

  /** The place where log and files of a container that does not run are served now. */
  stored(containerId: string): AgentAddress;

  /** Waits, bounded, where nobody serves stored containers for the moment. @throws unavailable */
  storedServed(): Promise<void>;
}
