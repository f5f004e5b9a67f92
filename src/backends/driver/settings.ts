/** Users' settings that a backend refuses, ignores, or handles in its own way. */
import type { Resources } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ExecConfig } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** The backend's rules for users' settings. */
export interface SettingRules {
  /**
   * Settings that this backend cannot honour. Called at create with the merged configuration; each string names one
   * (`--privileged`); any leads to a 501.
   */
  unsupported(record: ContainerRecord): readonly string[];
  /** Settings of an exec that this backend cannot honour, above all more privilege than its container has. */
  unsupportedByExecs(config: ExecConfig): readonly string[];
  /**
   * Settings that this backend accepts without effect. Called for a container before its creation, and for one endpoint
   * when a container is connected to a network. Each becomes a warning in the log and in the answer to the creation.
   */
  notApplied(record: ContainerRecord): readonly UnappliedSetting[];
}

/** A setting that a container can work without. */
export interface UnappliedSetting {
  /** Its name for users: `--oom-score-adj`. */
  readonly name: string;
  /** The reason, as a clause for users. */
  readonly why: string;
}

/** The limits of running containers. */
export interface LimitChanges {
  /**
   * Encodes limits for the agent of a running container (`AgentService.Update`).
   *
   * @param limits those to change; zero or unset ones stay
   * @throws not-implemented if limits of running containers cannot be changed here
   */
  encode(limits: Resources): Promise<Uint8Array>;
}

/**
 * The socket of a container that binds the Docker socket: none; one for what is made through it; one with all rights of the
 * frontend's clients.
 */
export type InnerSocketMode = "off" | "own" | "full";

/** Host paths in `Binds` and bind `Mounts`. */
export type HostPaths =
  /** Accepted without effect, but for that of a Docker socket. */
  | { readonly kind: "ignored"; readonly dockerSocket: InnerSocketMode }
  | {
      readonly kind: "mounted";
      /** The backend's state directory; absent if it is not on the containers' machine. */
      readonly stateDirectory?: string;
      /**
       * Whether a bind mount's source exists.
       *
       * @throws invalid, in Docker's words; system: its file system does not answer
       */
      exists(hostPath: string): Promise<boolean>;
    };
