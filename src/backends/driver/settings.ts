/** Settings that users ask for: those that a backend cannot honour, and those that it treats in its own way. */
import type { Resources } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ExecConfig } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** Settings that users may ask for. */
export interface SettingRules {
  /**
   * Settings that this backend cannot honour. Called at create with the merged
   * configuration; each string names one (`--privileged`); any leads to 501.
   */
  unsupported(record: ContainerRecord): readonly string[];
  /** Settings of an exec that this backend cannot honour: above all, more privilege than its container has. */
  unsupportedByExecs(config: ExecConfig): readonly string[];
  /**
   * Settings that this backend accepts and does not apply. Called with a container that is about to be made, and with one
   * endpoint when a container is connected to a network. Each is a warning in the log, and one of the creation's answer.
   */
  notApplied(record: ContainerRecord): readonly UnappliedSetting[];
}

/** A setting without which a container works, and has to. */
export interface UnappliedSetting {
  /** As users know it: `--oom-score-adj`. */
  readonly name: string;
  /** A clause for users. */
  readonly why: string;
}

/** The limits of running containers. */
export interface LimitChanges {
  /**
   * Limits as the agent of a running container takes them (`AgentService.Update`).
   *
   * @param limits those to change; what is zero or unset stays
   * @throws not-implemented: the limits of a running container cannot be changed here
   */
  encode(limits: Resources): Uint8Array;
}

/** Host paths in `Binds` and bind `Mounts`. */
export type HostPaths =
  /** They are accepted and not applied. */
  | { readonly kind: "ignored" }
  | {
      readonly kind: "mounted";
      /** Directory in which the backend keeps its state; absent: it is not on the containers' machine. */
      readonly stateDirectory?: string;
      /** Whether a host path in a bind mount stands for something of the driver's own, which is there in any case. */
      isSupplied(hostPath: string): boolean;
    };
