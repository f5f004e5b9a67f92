/**
 * The contract between the engine (Docker's semantics, in this folder) and a
 * driver (`local`, `ecs`, `aca`). A driver is small: it makes things exist and
 * go away, and knows nothing of Docker's HTTP or JSON. One contract suite
 * (`test/contract`) runs against every driver.
 *
 * Rules for every role:
 * - Calls are keyed by IDs that the engine chose and may be repeated: what is
 *   already there is left as it is, what is already gone is no error. The
 *   engine repeats calls after a crash.
 * - Failures are `SockerlessError`s (src/common/errors) of the kind that the
 *   comment names; anything else counts as `system`. A call that fails leaves
 *   nothing behind that a second call would trip over.
 * - A signal that aborts ends the wait, not necessarily the work.
 */

import type { MessageInitShape } from "@bufbuild/protobuf";

import type { ClientCredentials } from "../../agent-client/address.ts";
import type { StartRequestSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { Resources } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { NetworkEndpoint } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { Capabilities } from "../../gen/sockerless/backend/v1/system_pb.ts";
import type {
  ContainerRecord,
  ImageRecord,
  NetworkRecord,
  SealedImage,
  VolumeRecord,
} from "../../gen/sockerless/state/v1/state_pb.ts";

/** All roles of one backend's driver. */
export interface Driver {
  /** The backend's name as users write it. */
  readonly name: "local" | "ecs" | "aca";
  readonly capabilities: Capabilities;
  readonly policy: Policy;
  readonly workloads: Workloads;
  readonly images: ImagePreparer;
  readonly networks: NetworkFabric;
  readonly volumes: VolumeStore;
  readonly machine: Machine;
  /** Absent: agents tell what containers have written, and nobody what is in volumes. */
  readonly disk?: DiskMeter;
  /** Absent: no agent of this driver is on TCP. */
  readonly authority?: AgentAuthority;
  /**
   * The engine ends and waits no longer for what others have not answered: calls that wait for them end. What they were
   * for is taken up by the next process. Absent: nothing waits for long.
   */
  abandon?(): void;
  /** Drains and lets go of connections and helper processes; containers go on. */
  close(): Promise<void>;
}

/** Where backends differ in what Docker leaves open or a seed decides. */
export interface Policy {
  /** A volume counts as in use by `any` container that names it, or by `running` ones only: those that start or are restarted count. */
  readonly volumeInUse: "any" | "running";
  /** `force` removes a volume that is in use. */
  readonly forceRemovesUsedVolume: boolean;
  /** Volume drivers that can be named; the first is meant by "" and "local". */
  readonly volumeDrivers: readonly string[];
  /** Directory that Docker clients are shown for a volume; undefined: the driver's own path. */
  volumeMountpoint(name: string): string | undefined;
  /** Messages of refusals, where a seed fixes them verbatim; undefined: Docker's. */
  readonly volumeInUseMessage: string | undefined;
  readonly networkInUseMessage: string | undefined;
  /** Host paths in `Binds` and bind `Mounts`: mounted, or accepted and not applied. */
  readonly hostPaths: "mount" | "ignore";
  /**
   * What only bridges and interfaces of a machine can have (IPv6, link-local addresses, options of Docker's bridge driver
   * beside `enable_icc`, which each driver reads): refused where it is not built, or accepted and not applied.
   */
  readonly bridgeSettings: "refuse" | "ignore";
  /** Whether a host path in a bind mount stands for something of the driver's own, which is there in any case. */
  isSupplied?(hostPath: string): boolean;
  /** Whether an exec can have more privilege than its container (`exec --privileged`). */
  readonly privilegedExecs: boolean;
  /** Who listens for published ports: the driver where the container runs, or a frontend that then says what it bound. */
  readonly publishesPorts: "driver" | "frontend";
  /**
   * Whether containers that share a network have an interface each, so that their agents have to make one of them
   * (`AgentService.Partners`), and names are told to each. Absent: the driver shares the namespace itself.
   */
  readonly joinsNetworksByAgents?: boolean;
  /**
   * How long a start waits for what others are asked, all of it together; what is not known by then is asked behind.
   * Absent: for as long as it takes.
   */
  readonly startPatienceMs?: number;
  /**
   * A launch may take long: who stops, kills or by force removes the container meanwhile ends it, by its signal. Absent:
   * launches are waited for, as Docker does.
   */
  readonly endsLaunches?: boolean;
  /** How long a container's start waits for directories of volumes to become mountable. Absent: as long as it takes. */
  readonly volumePartsLimitMs?: number;
  /**
   * Settings that this backend cannot honour. Called at create with the merged
   * configuration; each string names one (`--privileged`); any leads to 501.
   */
  unsupported(record: ContainerRecord): readonly string[];
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
  /** So usual that no client is told. */
  readonly isUsual?: boolean;
}

/** Vouches for those who may talk to agents on TCP. A certificate is good for one container and for minutes. */
export interface AgentAuthority {
  /** What this process shows to a container's agent. */
  credentialsFor(containerId: string): Promise<ClientCredentials>;
  /**
   * A certificate for somebody else's key.
   *
   * @param publicKey SubjectPublicKeyInfo, DER
   * @returns DER, leaf first. Kinds: invalid (not such a key)
   */
  certify(containerId: string, publicKey: Uint8Array): Promise<readonly Uint8Array[]>;
  /**
   * A certificate for the agent of a container that shares the network of this one: it opens where this one's processes
   * listen and nothing else, and is good for an hour.
   *
   * @param publicKey as for {@link AgentAuthority.certify}
   */
  certifyPartner(containerId: string, publicKey: Uint8Array): Promise<readonly Uint8Array[]>;
}

/** Where an agent can be dialled by this machine. */
export type AgentAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly pin: Uint8Array };

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
  readonly nonRecursive?: boolean;
  /**
   * Of one that is read-only: whether what is mounted beneath its source is so too. Absent: where the machine can do
   * it; `required`: or else the launch fails.
   */
  readonly readOnlyBeneath?: "no" | "required";
  /** tmpfs: mount options as `--tmpfs` writes them, size and mode included. */
  readonly tmpfsOptions?: readonly string[];
}

/** What the engine asks a driver to run. */
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
  /** Attach reservations for which the process waits. */
  readonly awaitAttachIds: readonly string[];
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
  /** Where the policy is {@link Policy.joinsNetworksByAgents}: whose network it shares. */
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
  /** Where the container is really reached, where the addresses of its endpoints are virtual. */
  readonly address?: string;
}

/** The end of a workload as a record tells it. */
export interface FoundExit {
  readonly code: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Date;
  /** What ended it, where it did not end by itself: `State.Error`. */
  readonly error?: string;
}

/** A workload found by `list`. */
export interface FoundWorkload {
  readonly containerId: string;
  readonly generation: bigint;
  /** Set while its agent lives; the agent's Watch tells the rest. */
  readonly agent: AgentAddress | undefined;
  readonly boundPorts: readonly BoundPort[];
  /** From a durable record of the machine or the cloud, where no agent lives. */
  readonly exit: FoundExit | undefined;
  /** Ends of execs that the record tells, by exec ID. */
  readonly execExits: ReadonlyMap<string, number>;
  /**
   * The engine's record as it was when the run began or {@link Workloads.seal} was told, where the driver can vouch for
   * it: what a state that lost the container is rebuilt from.
   */
  readonly record?: ContainerRecord;
  /** With the record: the container's images, as far as they were kept. */
  readonly images?: readonly SealedImage[];
  /** It runs, and only its agent, which does not answer, could tell what it is: it is asked again later. */
  readonly unanswered?: boolean;
}

/** Absolute paths; empty: the container has no such file of its own. */
export interface NameFilePaths {
  readonly hostnamePath: string;
  readonly hostsPath: string;
  readonly resolvConfPath: string;
}

/** What a launch tells while it goes on. */
export interface LaunchProgress {
  /**
   * What is to be done once the agent answers: called at most once, and over when the launch is. A driver that has the
   * agent do something before `Start` calls it meanwhile; others need not.
   */
  readonly reached?: ((launched: Launched) => Promise<void>) | undefined;
  /**
   * Told that the platform has no room for the workload, in its words, and that the launch waits for some; told again
   * where the words change. From then until `goesOn` the signal may abort because a user gives the start up.
   */
  readonly waits?: ((reason: string) => void) | undefined;
  /** Told that the platform has given it room: what follows is a launch like any other. */
  readonly goesOn?: (() => void) | undefined;
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
  launch(spec: WorkloadSpec, signal: AbortSignal, progress?: LaunchProgress): Promise<Launched>;

  /**
   * What the agent of a launched workload is told with `AgentService.Start` beside what the engine says: process, names,
   * limits. Absent: its driver has told it already.
   */
  startDetails?(spec: WorkloadSpec): Promise<MessageInitShape<typeof StartRequestSchema>>;

  /**
   * A start has succeeded, and that is recorded: what was kept in case it fails may go. A process that ends right then
   * does not call this, and `release` follows in any case. Absent: nothing was kept.
   */
  started?(containerId: string): Promise<void>;

  /**
   * What the agent of a container is to keep of it and of its images, as they are now (`AgentService.Reseal`), for
   * {@link FoundWorkload.record}. Absent: agents keep nothing.
   */
  seal?(
    record: ContainerRecord,
    images: readonly ImageRecord[],
  ): Promise<{ readonly specification: Uint8Array; readonly seal: Uint8Array }>;

  /**
   * Takes away what a run leaves (network, mounts, task), killing what still
   * runs. The engine calls it behind the client's back, and launches the
   * container again only after it. A driver may keep what the next launch can
   * use, for a bounded time.
   */
  release(containerId: string): Promise<void>;

  /**
   * The files of this machine that a container which has started has as its name files, for an inspect. Absent: there
   * are none on this machine.
   *
   * @param containerOf others, by full ID; undefined: gone
   */
  nameFilePaths?(
    record: ContainerRecord,
    containerOf: (id: string) => ContainerRecord | undefined,
  ): NameFilePaths;

  /** Release, and the container's files and log. */
  remove(containerId: string): Promise<void>;

  /**
   * What ended a released run from outside, which its exit code does not say; empty: nothing that is known. Absent:
   * nothing does.
   */
  interruptionOf?(containerId: string): string;

  /**
   * Ends a run past its agent, which does not answer; resolves once `list` tells how it has ended. Absent: an agent that
   * does not answer is gone, and what it ran with it.
   *
   * @throws unavailable: it has not ended when the signal aborts, and may do so later
   */
  end?(containerId: string, signal: AbortSignal): Promise<void>;

  /** Everything of ours that exists, running or not. */
  list(): Promise<readonly FoundWorkload[]>;

  /**
   * What {@link list} would tell as far as it is known here; what ran is taken to run. Absent: a backend whose list fails
   * does not start.
   */
  known?(): readonly FoundWorkload[];

  /**
   * Limits as the agent of a running container takes them (`AgentService.Update`). Absent: the limits of a running
   * container cannot be changed here.
   *
   * @param limits those to change; what is zero or unset stays
   */
  encodeLimits?(limits: Resources): Uint8Array;

  /**
   * Where the log of a container is read whose agent has a part of it only; undefined: the agent that there is has it all.
   * Absent: agents always have.
   */
  wholeLog?(containerId: string): AgentAddress | undefined;

  /** Where the log and the files of a container that does not run are served now. */
  stored(containerId: string): AgentAddress;
}

/** Images as this backend can run them. The content store and the index are the engine's. */
export interface ImagePreparer {
  /**
   * Makes the image runnable (layers unpacked, or known to the cloud's registry).
   *
   * @returns the driver's reference to what it runs, kept in the image's record; empty: it needs none
   */
  prepare(image: ImageRecord, blobPath: (digest: string) => string, signal: AbortSignal): Promise<string>;
  /** An image was removed, with everything but its layers. Absent: nothing else is kept of it. */
  discard?(image: ImageRecord): Promise<void>;
  /** Layers that no image names any more, by diff ID. */
  forget(diffIds: readonly string[]): Promise<void>;
  /** The layers that are there, by diff ID; those that nothing names are forgotten when a backend starts. */
  known(): Promise<readonly string[]>;
  /** Whether pull must fetch layers, or manifest and configuration suffice. */
  readonly needsLayers: boolean;
}

/** A running container that joins or leaves one network. */
export interface NetworkChange {
  /** With its endpoints before the change, and after it. */
  readonly before: ContainerRecord;
  readonly after: ContainerRecord;
  readonly network: NetworkRecord;
  /** The endpoint that comes or goes. */
  readonly endpoint: NetworkEndpoint;
  /** Of the container after the change; empty: none. */
  readonly defaultGateway: string;
}

/** Addresses for networks that ask for no subnet: slices of `/size` out of `base`. */
export interface AddressPool {
  /** CIDR. */
  readonly base: string;
  /** Length of the prefix of one network. */
  readonly size: number;
}

/** Networks below the engine's IPAM. */
export interface NetworkFabric {
  /**
   * Where networks that ask for no subnet get theirs, in this order; the first slice of all is the default bridge's.
   * Absent: Docker's own.
   */
  readonly addressPools?: readonly AddressPool[];
  /** Joins a running container to a network. Absent: that takes effect at its next start only. */
  connect?(change: NetworkChange): Promise<void>;
  /** Takes a running container off a network. */
  disconnect?(change: NetworkChange): Promise<void>;
  /** A running container has another name. Absent: nobody knows it but agents. */
  renamed?(after: ContainerRecord): void;
  /**
   * Answers the driver's reference (bridge name, security group). A network in the phase `creating` whose pool nobody
   * asked for needs one that nothing else has: conflict, and the engine chooses another.
   */
  ensure(record: NetworkRecord): Promise<string>;
  remove(record: NetworkRecord): Promise<void>;
  /** What there is of this instance's networks, for a state that lost them. Absent: nothing outlives the state. */
  found?(): Promise<readonly NetworkRecord[]>;
  /** Destinations in CIDR form that address pools must not overlap. */
  usedRoutes(): Promise<readonly string[]>;
}

/** Volumes below the engine's registry. */
export interface VolumeStore {
  /**
   * Answers the driver's reference and the mountpoint on this machine, if there is one.
   *
   * @throws UnsettledError: the volume may be there; the same call finds or makes it
   */
  create(record: VolumeRecord): Promise<{ readonly reference: string; readonly mountpoint: string }>;
  /**
   * Makes a directory of a volume one that can be mounted apart from the whole; whether it exists, the mount tells.
   * Absent: nothing is needed for that.
   *
   * @param subpath normalized, not empty
   * @returns the driver's reference. Kinds: invalid (no such directory can be mounted here)
   */
  createPart?(record: VolumeRecord, subpath: string): Promise<string>;
  /** Removes a volume and its parts, those too whose creation a crash has cut off. */
  remove(record: VolumeRecord): Promise<void>;
  /** What there is of this instance's volumes, for a state that lost them. Absent: nothing outlives the state. */
  found?(): Promise<readonly VolumeRecord[]>;
}

/** What is on the disks of this backend. */
export interface DiskMeter {
  /** Bytes of containers' writable layers, by ID, and of volumes, by name. What does not exist has none. */
  measure(
    what: { readonly containers: readonly string[]; readonly volumes: readonly string[] },
    signal?: AbortSignal,
  ): Promise<{
    readonly containers: ReadonlyMap<string, bigint>;
    readonly volumes: ReadonlyMap<string, bigint>;
  }>;
}

/** What `docker info` tells of the machine or the cloud. */
export interface MachineFacts {
  readonly name: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly kernelVersion: string;
  readonly architecture: string;
  readonly ncpu: number;
  readonly memTotal: bigint;
  readonly storageDriver: string;
  readonly storageStatus: readonly (readonly [string, string])[];
  readonly cgroupDriver: string;
  readonly cgroupVersion: string;
  readonly cgroupControllers: readonly string[];
  readonly runtimes: readonly { readonly name: string; readonly path: string; readonly version: string }[];
  readonly securityOptions: readonly string[];
  readonly warnings: readonly string[];
  /** What containers that are not privileged do not see, and may only read, unless they say otherwise. */
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Limits that cannot be kept here: they are discarded with a warning. Absent: none are missing. */
  readonly missingLimits?: ReadonlySet<LimitFeature>;
}

/** What a limit on a container's resources needs of the machine. */
export type LimitFeature =
  | "memory"
  | "swap"
  | "swappiness"
  | "reservation"
  | "oom-kill-disable"
  | "pids"
  | "cpu-shares"
  | "cpu-quota"
  | "cpuset"
  | "io-weight"
  | "io-weight-device"
  | "io-read-bps"
  | "io-write-bps"
  | "io-read-iops"
  | "io-write-iops";

export interface Machine {
  facts(): Promise<MachineFacts>;
}
