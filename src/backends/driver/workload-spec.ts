/** A container as a driver is asked to run it. */
import type { SecretFile } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type {
  ContainerRecord,
  ImageRecord,
  NetworkRecord,
  VolumeRecord,
} from "../../gen/sockerless/state/v1/state_pb.ts";

/** A container as the engine asks a driver to run it. */
export interface WorkloadSpec {
  /** The journalled record: merged configuration, host configuration, endpoints with addresses. */
  readonly record: ContainerRecord;
  readonly image: ImageRecord;
  /** Main process, merged from image and user, as Docker would run it. */
  readonly args: readonly string[];
  /** Whole environment, PATH, HOSTNAME and TERM included. */
  readonly env: readonly string[];
  readonly mounts: readonly ResolvedMount[];
  /** How the container is joined to networks. */
  readonly network: NetworkPlan;
  /** Other containers whose namespaces it joins; the other modes of these namespaces are in the record. */
  readonly joined?: JoinedContainers;
  /** Other containers that it finds by names of its own. */
  readonly linkedHosts?: readonly LinkedHost[];
  readonly secrets?: StartSecrets;
  /**
   * It runs where it ran last, with the files that `Launches.steps` tells: the launch is a conflict where what it
   * ran in is gone.
   */
  readonly continues?: boolean;
}

/** One mount with everything looked up. */
export interface ResolvedMount {
  readonly type: "bind" | "volume" | "tmpfs" | "image";
  /** Absolute path in the container. */
  readonly destination: string;
  readonly readOnly: boolean;
  /** Bind: path on the machine. Volume: its record. */
  readonly source?: string;
  readonly volume?: VolumeRecord;
  /** Image: its record, and its layers, bottom first, by diff ID. */
  readonly image?: ImageRecord;
  readonly layerDiffIds?: readonly string[];
  /** Directory inside the volume to mount, normalized, or path inside the image. */
  readonly subpath?: string;
  /** Bind: make a missing source directory (`-v`), or fail (`--mount`). */
  readonly createSource?: boolean;
  /** A new volume takes the image's content at the destination. */
  readonly copyUp?: boolean;
  readonly propagation?: string;
  /** Whether the user asked for the propagation: the launch then fails where it cannot be had. */
  readonly propagationAsked?: boolean;
  readonly nonRecursive?: boolean;
  /**
   * Whether mounts beneath the source of a read-only mount are read-only too. Absent: where the machine can
   * do it; `required`: the launch fails where it cannot.
   */
  readonly readOnlyBeneath?: "no" | "required";
  /** tmpfs: mount options as `--tmpfs` writes them, size and mode included. */
  readonly tmpfsOptions?: readonly string[];
}

/** For one start alone: the agent keeps them in memory and nobody else keeps them. */
export interface StartSecrets {
  readonly files: readonly SecretFile[];
  /** Variables of the main process, `NAME=value`. */
  readonly env: readonly string[];
}

/** A line of /etc/hosts. */
export interface LinkedHost {
  readonly address: string;
  readonly names: readonly string[];
}

/** IDs of containers that run. */
export interface JoinedContainers {
  readonly pid?: string;
  /** Its /dev/shm, too. */
  readonly ipc?: string;
  /** The network that it shares, where agents see to that (`NetworkSharing`). */
  readonly network?: JoinedNetwork;
}

/** The network that a container shares with others. */
export interface JoinedNetwork {
  /** The container whose network it is: it shares nobody's. */
  readonly owner: ContainerRecord;
  /** How that is joined to networks. */
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
