/** Launches: their results and progress, and how they differ between backends. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AgentAddress } from "../../agent-client/address.ts";
import type { StartRequestSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { WorkloadSpec } from "./workload-spec.ts";

/** A published port with its actual binding. */
export interface BoundPort {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly hostIp: string;
  readonly hostPort: number;
  readonly containerPort: number;
}

export interface Launched {
  readonly agent: AgentAddress;
  readonly boundPorts: readonly BoundPort[];
  /** Handle stored in the state, to find the workload again (`driver_reference`). */
  readonly reference: string;
  /** Path of its network namespace on this machine; absent or empty if it has no namespace of its own here. */
  readonly networkNamespace?: string;
  /** The address at which the container can be reached if its endpoints' addresses are virtual; otherwise empty. */
  readonly address?: string;
  /** True if its agent has served an earlier run. */
  readonly reused?: boolean;
  /** Resolves (never rejects) once the platform has reported all phases of the launch; absent if it has already. */
  readonly settled?: Promise<void>;
}

/** A phase of a start. */
export interface ReportedPhase {
  readonly name:
    | "accepted"
    | "launch"
    | "image"
    | "definition"
    | "claim"
    | "unprepared"
    | "request"
    | "provisioning"
    | "pull"
    | "containers"
    | "agent"
    | "process"
    | "wait";
  /** The clock that measured the times. */
  readonly by: "backend" | "cloud" | "agent";
  readonly from: Date;
  /** Absent while the phase lasts, and for a moment. */
  readonly until?: Date;
  /** A remark for people. */
  readonly note?: string;
}

/** Callbacks by which a launch reports its progress. */
export interface LaunchProgress {
  /**
   * Does the engine's work at the agent, once that answers; finished before the launch is. A driver that has the agent
   * work before `Start` may call it meanwhile; others need not call it. Called again for another workload if this one was
   * lost.
   */
  reached(launched: Launched): Promise<void>;
  /**
   * Reports, in the platform's words, that the launch waits for room, or before another attempt; called again when the
   * words change. Until `goesOn` the signal may abort because a user cancels the start or, while it waits for room, has
   * disconnected.
   */
  waits(reason: string, before: "room" | "try"): void;
  /** Reports that there is room now: from here on it is a launch like any other. */
  goesOn(): void;
  /** Reports a phase, and updates to it; called until {@link Launched.settled} resolves. */
  phase(reported: ReportedPhase): void;
}

/** The place where a build's next step runs, if the previous one of its stage has run. */
export type StepsOfStages =
  /**
   * In the files that the previous step left: layers added in between are written there, and changes are tracked anew.
   */
  | { readonly kind: "in-its-files" }
  /** In new files, made from its own image. */
  | {
      readonly kind: "in-fresh-files";
      /**
       * Releases the run of a finished step, like `Workloads.release`, unless another step can follow it.
       *
       * @returns true if one can: the container's addresses stay in use until it is released, launched or removed
       */
      leave(containerId: string): Promise<boolean>;
    };

/** An agent that was lost after its launch, and before it has answered its start. */
export interface LostAgent {
  /** Whether it may have been told to run. */
  readonly isTold: boolean;
  /** The error of the call that it did not answer. */
  readonly failure: Error;
}

/** The steps of a start between the launch and the running container. */
export interface Launches {
  /** How {@link WorkloadSpec.continues} is carried out. */
  readonly steps: StepsOfStages;

  /**
   * Treatment of a launch when a user stops, kills or force-removes the container meanwhile: `await` waits for it, as
   * Docker does; `end` aborts its signal, since it may take long.
   */
  readonly stopDuringLaunch: "await" | "end";

  /**
   * The driver's fields in the `AgentService.Start` request, besides the engine's: process, names, limits. Empty if the
   * driver has already sent them to the agent.
   */
  startDetails(spec: WorkloadSpec): Promise<MessageInitShape<typeof StartRequestSchema>>;

  /**
   * Judges a start whose agent was lost between its launch and its answer to `AgentService.Start`.
   *
   * @returns true if the start goes on with another call of `launch`, because the container's command has not begun or the
   *   same agent may answer later; that call fails if there have been too many, or the start's time is over. False: the start
   *   fails
   */
  mayLaunchAgain(containerId: string, lost: LostAgent): Promise<boolean>;

  /**
   * Releases what was kept in case the start fails; called once its success is recorded. A backend that ends before
   * this call never makes it; `release` follows in any case.
   */
  started(containerId: string): Promise<void>;
}
