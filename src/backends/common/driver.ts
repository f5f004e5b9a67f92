/**
 * The contract between the engine (Docker's semantics, in this folder) and a
 * driver (`local`, `ecs`, `aca`). A driver is small: it makes things exist and
 * go away, and knows nothing of Docker's HTTP or JSON. One contract suite
 * (`test/contract`) runs against every driver.
 *
 * It is composed of roles. Every driver has every role and every method; where it has nothing of its own to say, it takes
 * one that is ready-made (`ready-made-roles.ts`). Only data may be left out.
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

import type { AgentAddress, ClientCredentials } from "../../agent-client/address.ts";
import type { StartRequestSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { Resources } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { NetworkEndpoint, SecretFile } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { ExecConfig } from "../../gen/sockerless/backend/v1/exec_pb.ts";
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
  /** The engine refuses what is not among them. */
  readonly capabilities: Capabilities;
  readonly settings: SettingRules;
  readonly platform: Platform;
  readonly workloads: Workloads;
  readonly launches: Launches;
  readonly silentAgents: SilentAgents;
  readonly authority: AgentAuthority;
  readonly seals: Seals;
  readonly limits: LimitChanges;
  readonly ports: PublishedPorts;
  readonly hostPaths: HostPaths;
  readonly images: ImagePreparer;
  readonly networks: NetworkFabric;
  readonly sharing: NetworkSharing;
  readonly traffic: ContainerTraffic;
  readonly agentReach: AgentReach;
  readonly volumes: VolumeStore;
  readonly machine: Machine;
  readonly disk: Disk;
  /** Drains and lets go of connections and helper processes; containers go on. */
  close(): Promise<void>;
}

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

/** The platform that containers run on: at hand, or one that may be slow to answer. */
export type Platform = PlatformAtHand | RemotePlatform;

/** A machine: a backend waits for it, and does not start where it fails. */
export interface PlatformAtHand {
  readonly kind: "at-hand";
}

/** A cloud: it may be slow or away while the backend starts and ends. */
export interface RemotePlatform {
  readonly kind: "remote";
  /**
   * Milliseconds that the backend's start waits for the answers of others, for all of them together;
   * questions that are open then are asked behind it.
   */
  readonly startPatienceMs: number;
  /** The answer of {@link Workloads.list} as far as it is known here; containers that ran are taken to run. */
  known(): readonly FoundWorkload[];
  /**
   * Ends calls that wait for the answers of others, since the engine ends and waits no longer. The next
   * process takes up what they were for.
   */
  abandon(): void;
}

/** The fate of containers whose agents do not answer. */
export type SilentAgents =
  /** An agent that does not answer is gone, and what it ran with it. */
  | { readonly kind: "gone" }
  | {
      readonly kind: "away";
      /**
       * Ends a run past its agent; resolves once {@link Workloads.list} tells how it has ended.
       *
       * @throws unavailable: it has not ended when the signal aborts, and may do so later
       */
      end(containerId: string, signal: AbortSignal): Promise<void>;
    };

/** Records that agents keep of their containers, for a backend that loses its state. */
export interface Seals {
  /**
   * Encodes a container and its images as they are now, for its agent to keep (`AgentService.Reseal`) until a
   * backend wants them back as {@link FoundWorkload.record}; undefined: agents keep nothing.
   */
  seal(
    record: ContainerRecord,
    images: readonly ImageRecord[],
  ): Promise<{ readonly specification: Uint8Array; readonly seal: Uint8Array } | undefined>;
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

/** Published ports: the driver listens where the container runs, or a frontend does, and then says what it bound. */
export interface PublishedPorts {
  readonly listener: "driver" | "frontend";
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

/** How containers share a network (`--network container:X`). */
export type NetworkSharing =
  /** The driver has them share the namespace. */
  | { readonly kind: "namespace" }
  /**
   * They have an interface each: their agents make one of them (`AgentService.Partners`), and names are told to each.
   */
  | { readonly kind: "agents" };

/** A setting without which a container works, and has to. */
export interface UnappliedSetting {
  /** As users know it: `--oom-score-adj`. */
  readonly name: string;
  /** A clause for users. */
  readonly why: string;
}

/** Vouches for those who may talk to agents on TCP. A certificate is good for one container and for minutes. */
export interface AgentAuthority {
  /** Key and certificate of this process for a container's agent; undefined: agents ask for none. */
  credentialsFor(containerId: string): Promise<ClientCredentials | undefined>;
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
  /**
   * The same for the agent of a container that is on a network with this one: it opens what others on a network reach.
   *
   * @param publicKey as for {@link AgentAuthority.certify}
   */
  certifyPeer(containerId: string, publicKey: Uint8Array): Promise<readonly Uint8Array[]>;
}

/** A container's agent, by its key. */
export interface KeyedAgent {
  readonly containerId: string;
  /** SHA-256 of its certificate's SubjectPublicKeyInfo. */
  readonly pin: Uint8Array;
}

/** How bytes get from one container to another. */
export type ContainerTraffic =
  /** Containers reach one another at the addresses that they are told. */
  | { readonly kind: "direct" }
  /** They do not: each is told addresses of its own loopback (`NamesRequest.peers`), and its agent reaches the others'. */
  | { readonly kind: "relayed" };

/** How the agent of one container reaches another's. */
export type AgentReach =
  /** At the other's address. */
  | { readonly kind: "dialled" }
  /** By a relay that both call. */
  | {
      readonly kind: "relayed";
      /**
       * Has the relay join an agent with these others and nobody else, at once: what it had with others is cut.
       *
       * @param pin undefined: the container has no agent any more
       */
      allow(containerId: string, pin: Uint8Array | undefined, others: readonly KeyedAgent[]): void;
    };

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
  /** Attach reservations for which the process waits. */
  readonly awaitAttachIds: readonly string[];
  readonly secrets?: StartSecrets;
  /**
   * It runs where it ran last, with the files that {@link Launches.steps} tells: the launch is a conflict where what it
   * ran in is gone.
   */
  readonly continues?: boolean;
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
  /** The network that it shares, where agents see to that ({@link NetworkSharing}). */
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
  readonly containerId: string;
  readonly generation: bigint;
  /** Set while its agent lives, or nobody can tell yet how it ended; the agent's Watch tells the rest. */
  readonly agent: AgentAddress | undefined;
  readonly boundPorts: readonly BoundPort[];
  /** From a durable record of the machine or the cloud, where no agent lives. */
  readonly exit: FoundExit | undefined;
  /** Ends of execs that the record tells, by exec ID. */
  readonly execExits: ReadonlyMap<string, number>;
  /**
   * The engine's record as of the run's begin or the last {@link Seals.seal}, where the driver can vouch for
   * it: a state that lost the container is rebuilt from it.
   */
  readonly record?: ContainerRecord;
  /** With the record: the container's images, as far as they were kept. */
  readonly images?: readonly SealedImage[];
  /** Set while it runs and its agent, which alone knows what it is, is silent: it is asked again later. */
  readonly unanswered?: boolean;
}

/** Absolute paths; empty: the container has no such file of its own. */
export interface NameFilePaths {
  readonly hostnamePath: string;
  readonly hostsPath: string;
  readonly resolvConfPath: string;
}

/** Calls by which a launch tells how it goes on. */
export interface LaunchProgress {
  /**
   * Does the engine's work at an agent that answers: called at most once, and over when the launch is. A
   * driver that has the agent do something before `Start` calls it meanwhile; others need not.
   */
  reached(launched: Launched): Promise<void>;
  /**
   * Told that the platform has no room for the workload, in its words, and that the launch waits for some; told again
   * where the words change. From then until `goesOn` the signal may abort because a user gives the start up.
   */
  waits(reason: string): void;
  /** Told that the platform has given it room: what follows is a launch like any other. */
  goesOn(): void;
  /** Told of a phase, and again as more of it is known; until {@link Launched.settled}. */
  phase(told: ToldPhase): void;
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

  /** Everything of ours that exists, running or not. */
  list(): Promise<readonly FoundWorkload[]>;

  /** The place of the whole log of a container whose agent has a part of it; undefined: the agent has it all. */
  wholeLog(containerId: string): AgentAddress | undefined;

  /** The place where log and files of a container that does not run are served now. */
  stored(containerId: string): AgentAddress;
}

/** An upload that goes to the driver, and not through this process. */
export interface ExpectedUpload extends AsyncDisposable {
  /** Address to send it to, as an archive that is put into a container with the upload's ID. */
  readonly address: AgentAddress;
  /** Resolves once all of it is stored. @throws invalid: cut, or not a whole tar; the driver's failure */
  readonly taken: Promise<TakenUpload>;
}

/** An archive of images that goes to the driver, and not through this process. */
export interface ExpectedArchive extends AsyncDisposable {
  /** Address of the agent that takes it, as an archive that is put into a container with the upload's ID. */
  readonly address: AgentAddress;
  /** Come as the archive does. @throws invalid: cut, no tar, or too many; the driver's failure */
  readonly entries: AsyncIterable<ArchiveEntry>;
}

/** An entry of an archive of images; a file is stored. */
export type ArchiveEntry = { readonly name: string } & (
  | { readonly type: "file"; readonly path: string; readonly digest: string; readonly size: number }
  | { readonly type: "symlink" | "link"; readonly target: string }
  | { readonly type: "directory" | "other" }
);

/** An upload that has come, and been stored. */
export interface TakenUpload {
  /** Digest of the bytes as they came, and their number. */
  readonly digest: string;
  readonly size: number;
  /** Digest of the tar, not compressed, and the number of its bytes. */
  readonly diffId: string;
  readonly tarSize: number;
  readonly compression: "gzip" | "zstd" | undefined;
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
       * Releases the run of a step that has ended, as {@link Workloads.release}, unless another one can follow it.
       *
       * @returns whether one can: until the container is released, launched or removed, its addresses are in use
       */
      leave(containerId: string): Promise<boolean>;
    };

/** A container that is about to be made: everything is known of it but its ID, and the host name where that follows from it. */
export type PlannedContainer = Omit<ContainerRecord, "id" | "name">;

/** Steps between a launch and a container that runs. */
export interface Launches {
  /**
   * The ID of a container like this one that was launched ahead, but for its command: the new one is made and
   * launched faster under it, and as any other where that has gone meanwhile. Told once; undefined: there is none.
   */
  spareFor(planned: PlannedContainer): string | undefined;

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

/** The way of layers that clients upload. */
export type LayerUploads =
  /** They come through this process. */
  | { readonly kind: "relayed" }
  | {
      readonly kind: "direct";
      /**
       * Waits for the upload of a layer, which is stored and unpacked while it comes.
       *
       * @param uploadId a full ID that nobody can guess
       * @param blobPath where it is stored; nothing is left there of one that fails
       * @param signal ends it
       */
      expect(uploadId: string, blobPath: string, signal: AbortSignal): Promise<ExpectedUpload>;
      /**
       * Waits for the upload of an archive of images, whose files are stored while it comes.
       *
       * @param uploadId a full ID that nobody can guess
       * @param directory where they are stored, which is not there yet; it goes when the answer is disposed of
       * @param signal ends it
       */
      expectArchive(uploadId: string, directory: string, signal: AbortSignal): Promise<ExpectedArchive>;
    };

/** A part of an archive: bytes, or a layer's tar, not compressed. */
export type ArchivePart =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | {
      readonly kind: "layer";
      /** Digest of the tar. */
      readonly diffId: string;
      /** Bytes of the tar. */
      readonly size: number;
      /** The blob, as it came: plain, gzip or zstd. */
      readonly digest: string;
    };

/** The way of archives of images to clients. */
export type ArchiveDownloads =
  /** They come through this process. */
  | { readonly kind: "relayed" }
  | {
      readonly kind: "direct";
      /**
       * Has the archive be exported to whoever asks at the address.
       *
       * @param archiveId a full ID that nobody can guess
       * @param parts at most 16 MiB of bytes among them
       * @param signal ends it; what is being written goes on
       */
      offer(
        archiveId: string,
        parts: readonly ArchivePart[],
        blobPath: (digest: string) => string,
        signal: AbortSignal,
      ): Promise<AgentAddress>;
    };

/** The unpacking of layers. */
export type LayerUnpacking =
  /** The platform does it where it runs an image: a pull fetches manifest and configuration alone. */
  | { readonly kind: "platform" }
  | {
      readonly kind: "driver";
      /**
       * Unpacks a layer ahead of the image that needs it, which must still be prepared.
       *
       * @returns bytes of its tar, not compressed; undefined: the blob was not read, so that it may be another's
       * @throws invalid: not a whole tar, or another than the diff ID says
       */
      unpack(diffId: string, blobPath: string, signal: AbortSignal): Promise<number | undefined>;
      /** Layers that no image names any more, by diff ID. */
      forget(diffIds: readonly string[]): Promise<void>;
      /** The layers that are there, by diff ID; those that nothing names are forgotten when a backend starts. */
      known(): Promise<readonly string[]>;
    };

/** Images as this backend can run them. The content store and the index are the engine's. */
export interface ImagePreparer {
  /**
   * Makes the image runnable (layers unpacked, or known to the cloud's registry).
   *
   * @returns the driver's reference to what it runs, kept in the image's record; empty: it needs none
   */
  prepare(image: ImageRecord, blobPath: (digest: string) => string, signal: AbortSignal): Promise<string>;
  readonly unpacking: LayerUnpacking;
  readonly uploads: LayerUploads;
  readonly downloads: ArchiveDownloads;
  /** An image was removed, with everything but its layers. */
  discard(image: ImageRecord): Promise<void>;
}

/** A running container that joins or leaves one network. */
export interface NetworkChange {
  /** With its endpoints before the change, and after it. */
  readonly before: ContainerRecord;
  readonly after: ContainerRecord;
  readonly network: NetworkRecord;
  /** The endpoint that comes or goes. */
  readonly endpoint: NetworkEndpoint;
  /** The container's gateway after the change; empty: none. */
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
   * Pools for networks that ask for no subnet, in the order in which they are used; the first slice of all is
   * the default bridge's. Absent: Docker's own.
   */
  readonly addressPools?: readonly AddressPool[];
  /**
   * Treatment of settings that only bridges and interfaces of a machine can have (IPv6, link-local addresses,
   * options of Docker's bridge driver beside `enable_icc`, which each driver reads). `apply`: applied, or
   * refused where that is not built; `ignore`: accepted and not applied.
   */
  readonly bridgeSettings: "apply" | "ignore";
  /**
   * The addresses of endpoints: `real`, where peers reach a container, or `virtual`: peers are told
   * {@link Launched.address}, and nothing of a container that has none.
   */
  readonly endpointAddresses: "real" | "virtual";
  /** The refusal to remove a network that has containers, where it is not Docker's. */
  readonly inUseMessage?: string;
  /** Joins a running container to a network. */
  connect(change: NetworkChange): Promise<void>;
  /** Takes a running container off a network. */
  disconnect(change: NetworkChange): Promise<void>;
  /** Tells whoever knows a running container's name, beside agents, that it has another one. */
  renamed(after: ContainerRecord): void;
  /**
   * Answers the driver's reference (bridge name, security group). A network in the phase `creating` whose pool nobody
   * asked for needs one that nothing else has: conflict, and the engine chooses another.
   */
  ensure(record: NetworkRecord): Promise<string>;
  remove(record: NetworkRecord): Promise<void>;
  /** Networks of this instance that exist, for a state that lost them. */
  found(): Promise<readonly NetworkRecord[]>;
  /** Destinations in CIDR form that address pools must not overlap. */
  usedRoutes(): Promise<readonly string[]>;
}

/** A kind of volumes that can be named (`--driver`). */
export interface VolumeDriver {
  readonly name: string;
  /**
   * A volume is had by any number of containers, or by one alone: from its creation on until it is removed, whether it
   * runs or not.
   */
  readonly sharing: "shared" | "exclusive";
  /** Whether what is in a volume is kept by this backend: only then a prune removes it, and its size is told. */
  readonly content: "here" | "here-without-options";
}

/** Rules of volumes that Docker leaves open, or that differ in a cloud. */
export interface VolumeRules {
  /** The first is meant by "" and "local". */
  readonly drivers: readonly VolumeDriver[];
  /** Reasons why drivers of other backends are not here, and what to use, by name. */
  readonly elsewhere?: Readonly<Record<string, string>>;
  /** A volume is in use by `any` container that names it, or by `running` ones only: those that start or are restarted count. */
  readonly usedBy: "any" | "running";
  /** The effect of `force` on a volume that is in use. */
  readonly forceOnUsed: "refuse" | "remove";
  /** The refusal to remove a volume that is in use, where it is not Docker's. */
  readonly inUseMessage?: string;
}

/** Directories of volumes that are mounted apart from the whole. */
export type VolumeParts =
  /** Nothing is needed for that. */
  | { readonly kind: "ready" }
  | {
      readonly kind: "made";
      /** How long a container's start waits for them to become mountable. Absent: as long as it takes. */
      readonly limitMs?: number;
      /**
       * Makes a directory of a volume mountable apart from the whole; the mount tells whether it exists.
       *
       * @param subpath normalized, not empty
       * @returns the driver's reference. Kinds: invalid (no such directory can be mounted here)
       */
      create(record: VolumeRecord, subpath: string): Promise<string>;
    };

/** A volume that a driver has made. */
export interface MadeVolume {
  readonly reference: string;
  /** Its place on this machine as users are told it, if there is one. */
  readonly mountpoint: string;
  /** Further details for users (`Status`). */
  readonly status: Readonly<Record<string, string>>;
}

/** A volume in use whose disk has less room than it may yet take, or hardly any: what is written to it may get lost. */
export interface VolumeShortage {
  readonly name: string;
  /** Bytes that the disk has left. */
  readonly free: bigint;
  /** Bytes that the volume may yet take of it. */
  readonly growth: bigint;
}

/** Volumes below the engine's registry. */
export interface VolumeStore {
  readonly rules: VolumeRules;
  readonly parts: VolumeParts;
  /**
   * Makes the volume; where it is there, compares it with the options.
   *
   * @throws UnsettledError: the volume may be there; the same call finds or makes it
   * @throws invalid: options, before anything is made; conflict: it is there, and other than the options ask
   */
  create(record: VolumeRecord): Promise<MadeVolume>;
  /** Removes a volume and its parts, those too whose creation a crash has cut off. */
  remove(record: VolumeRecord): Promise<void>;
  /** Volumes of this instance that exist, for a state that lost them. */
  found(): Promise<readonly VolumeRecord[]>;
  /**
   * Tells of each shortage once when it begins, and of those there are already, until the signal aborts. Where volumes
   * take no room of a disk as they are written to, it resolves at once.
   *
   * @throws the signal's reason
   */
  watchRoom(tell: (shortage: VolumeShortage) => Promise<void>, signal: AbortSignal): Promise<void>;
}

/** Sizes of what containers and volumes hold. */
export type Disk =
  /** Agents tell what containers have written, and nobody what is in volumes. */
  { readonly kind: "agents" } | DiskMeter;

/** The driver measures disks. */
export interface DiskMeter {
  readonly kind: "meter";
  /** Bytes of containers' writable layers, by ID, and of volumes, by name. What does not exist has none. */
  measure(
    what: { readonly containers: readonly string[]; readonly volumes: readonly string[] },
    signal?: AbortSignal,
  ): Promise<{
    readonly containers: ReadonlyMap<string, bigint>;
    readonly volumes: ReadonlyMap<string, bigint>;
  }>;
}

/** Facts of the machine or the cloud, as `docker info` tells them. */
export interface MachineFacts {
  readonly name: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly kernelVersion: string;
  readonly architecture: string;
  readonly ncpu: number;
  /** Nodes that have memory, such as `0-1`; absent: not known. */
  readonly memoryNodes?: string;
  readonly memTotal: bigint;
  readonly storageDriver: string;
  readonly storageStatus: readonly (readonly [string, string])[];
  readonly cgroupDriver: string;
  readonly cgroupVersion: string;
  readonly cgroupControllers: readonly string[];
  readonly runtimes: readonly RuntimeFacts[];
  readonly securityOptions: readonly string[];
  readonly warnings: readonly string[];
  /** The firewall that keeps networks apart, as `docker info` names it; absent: none of this machine. */
  readonly firewallBackend?: string;
  /** Paths that containers which are not privileged do not see, or may only read, unless they say otherwise. */
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Limits that cannot be kept here: they are discarded with a warning. Absent: none are missing. */
  readonly missingLimits?: ReadonlySet<LimitFeature>;
}

/** A program, or a platform, that runs containers. */
export interface RuntimeFacts {
  readonly name: string;
  readonly path: string;
  readonly version: string;
  /** The commit of its source; empty: it does not say. */
  readonly commit: string;
}

/** Features of the machine that limits on a container's resources need. */
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
