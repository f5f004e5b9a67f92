/** Launches: what a driver tells of one, and what is peculiar to those of a backend. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AgentAddress } from "../../agent-client/address.ts";
import type { StartRequestSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { WorkloadSpec } from "./workload-spec.ts";

/** A published port as bound. */
export interface BoundPort {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly hostIp: string;
  readonly hostPort: number;
  readonly containerPort: number;
}

export interface Launched {
  readonly agent: AgentAddress;
  readonly boundPorts: readonly BoundPort[];
  /** Handle for the state, so that the workload is found again (`driver_reference`). */
  readonly reference: string;
  /** Path of its network namespace on this machine; absent or empty: it has none of its own there. */
  readonly networkNamespace?: string;
  /** The address that the container is really reached at, where those of its endpoints are virtual; empty: it is not. */
  readonly address?: string;
  /** Its agent has served a run before this one. */
  readonly reused?: boolean;
  /** Resolves, in any case, once the platform tells no more of the launch's phases; absent: it has told all. */
  readonly settled?: Promise<void>;
}

/** A phase of a start. */
export interface ToldPhase {
  readonly name:
    | "accepted"
    | "launch"
    | "image"
    | "definition"
    | "request"
    | "provisioning"
    | "pull"
    | "containers"
    | "agent"
    | "process"
    | "wait";
  /** The clock that its times are by. */
  readonly by: "backend" | "cloud" | "agent";
  readonly from: Date;
  /** Absent: it lasts, or is a moment. */
  readonly until?: Date;
}

/** Calls by which a launch tells how it goes on. */
export interface LaunchProgress {
  /**
   * Does the engine's work at an agent that answers, over when the launch is. A driver that has the agent do something
   * before `Start` calls it meanwhile; others need not. Called again where that workload was lost, and for another.
   */
  reached(launched: Launched): Promise<void>;
  /**
   * Told, in the platform's words, that the launch waits: for room, or before it is tried again; told again where the words
   * change. From then until `goesOn` the signal may abort because a user gives the start up, or, as it waits for room, has left.
   */
  waits(reason: string, before: "room" | "try"): void;
  /** Told that the platform has given it room: what follows is a launch like any other. */
  goesOn(): void;
  /** Told of a phase, and again as more of it is known; until {@link Launched.settled}. */
  phase(told: ToldPhase): void;
}

/** Another step of a build, where the last one of its stage ran. */
export type StepsOfStages =
  /** Each has a container of its own; launches are never asked for it. */
  | { readonly kind: "apart" }
  /** It has the files that the last one has left: layers in between are put there, and changes are counted anew. */
  | { readonly kind: "in-its-files" }
  /** It has the files of its own image alone. */
  | {
      readonly kind: "in-fresh-files";
      /**
       * Releases the run of a step that has ended, as `Workloads.release`, unless another one can follow it.
       *
       * @returns whether one can: until the container is released, launched or removed, its addresses are in use
       */
      leave(containerId: string): Promise<boolean>;
    };

/** Steps between a launch and a container that runs. */
export interface Launches {
  /** Treatment of {@link WorkloadSpec.continues}. */
  readonly steps: StepsOfStages;

  /**
   * Treatment of a launch under way when a user stops, kills or by force removes the container: `await` waits
   * for it, as Docker does; `end` aborts its signal, since it may take long.
   */
  readonly whenUnwanted: "await" | "end";

  /**
   * The driver's fields of the `AgentService.Start` request to a launched workload, beside the engine's:
   * process, names, limits. Empty: the driver has told the agent already.
   */
  startDetails(spec: WorkloadSpec): Promise<MessageInitShape<typeof StartRequestSchema>>;

  /**
   * Lets go of what was kept in case a start fails: it has succeeded, and that is recorded. A backend that
   * ends right then does not call this, and `release` follows in any case.
   */
  started(containerId: string): Promise<void>;
}
