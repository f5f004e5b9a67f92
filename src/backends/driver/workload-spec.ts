/** A container as the engine asks a driver to run it. */
import type { SecretFile } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type {
  ContainerRecord,
  ImageRecord,
  NetworkRecord,
  VolumeRecord,
} from "../../gen/sockerless/state/v1/state_pb.ts";

/** A container as the engine asks a driver to run it. */
export interface WorkloadSpec {
  /** The record written before the launch: merged configuration, host configuration, endpoints with addresses. */
  readonly record: ContainerRecord;
  readonly image: ImageRecord;
  /** The main process, merged from image and user as in Docker. */
  readonly args: readonly string[];
  /** The complete environment, including PATH, HOSTNAME and TERM. */
  readonly env: readonly string[];
  readonly mounts: readonly ResolvedMount[];
  /** How the container is connected to networks. */
  readonly network: NetworkPlan;
  /** Other containers whose namespaces it joins; for other modes see the record. */
  readonly joined?: JoinedContainers;
  /** Other containers that it can reach by its own aliases. */
  readonly linkedHosts?: readonly LinkedHost[];
  readonly secrets?: StartSecrets;
  /**
   * True if it runs in the same place as its last run, with the files that `Launches.steps` describes; if that place is
   * gone, the launch fails with conflict.
   */
  readonly continues?: boolean;
}

/** A mount with all references resolved. */
export interface ResolvedMount {
  readonly type: "bind" | "volume" | "tmpfs" | "image";
  /** Absolute path in the container. */
  readonly destination: string;
  readonly readOnly: boolean;
  /** For a bind: path on the machine. */
  readonly source?: string;
  readonly volume?: VolumeRecord;
  /** For an image: its record, and the diff IDs of its layers, bottom first. */
  readonly image?: ImageRecord;
  readonly layerDiffIds?: readonly string[];
  /** For a volume: normalized directory in it to mount; for an image: path in it. */
  readonly subpath?: string;
  /** For a bind: create a missing source directory (`-v`) instead of failing (`--mount`). */
  readonly createSource?: boolean;
  /** Copy the image's content at the destination into a new volume. */
  readonly copyUp?: boolean;
  readonly propagation?: string;
  /** True if the user asked for the propagation: the launch then fails if it is not possible. */
  readonly propagationAsked?: boolean;
  readonly nonRecursive?: boolean;
  /**
   * Whether mounts below a read-only mount's source are read-only too. Absent: if the machine supports it; `required`:
   * the launch fails if it does not.
   */
  readonly readOnlyBeneath?: "no" | "required";
  /** For a tmpfs: mount options in the format of `--tmpfs`, including size and mode. */
  readonly tmpfsOptions?: readonly string[];
}

/** Secrets for one start: only the agent keeps them, in memory. */
export interface StartSecrets {
  readonly files: readonly SecretFile[];
  /** Variables of the main process, `NAME=value`. */
  readonly env: readonly string[];
}

/** A line of /etc/hosts. */
export interface LinkedHost {
  readonly address: string;
  readonly names: readonly string[];
  /** The address of the extra host that this line replaces: a peer's as inspect shows it, which is reached at `address`. */
  readonly shownAddress?: string;
}

/** IDs of running containers whose namespaces are joined. */
export interface JoinedContainers {
  readonly pid?: string;
  /** Shares its /dev/shm too. */
  readonly ipc?: string;
  /** The network that it shares, if agents implement the sharing (`NetworkSharing`). */
  readonly network?: JoinedNetwork;
}

/** The network that a container shares with others. */
export interface JoinedNetwork {
  /** The container that owns the network, and shares no other's. */
  readonly owner: ContainerRecord;
  /** How the owner is connected to networks. */
  readonly plan: NetworkPlan;
}

export type NetworkPlan =
  | { readonly kind: "none" }
  | { readonly kind: "host" }
  | { readonly kind: "container"; readonly containerId: string }
  | {
      readonly kind: "networks";
      readonly networks: readonly { readonly name: string; readonly record: NetworkRecord }[];
    };
