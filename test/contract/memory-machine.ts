/** A driver for tests whose machine is this process: containers are child processes behind {@link ProcessAgent}s. */
import { EventEmitter } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { rename } from "node:fs/promises";
import path from "node:path";
import { setImmediate } from "node:timers/promises";

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { conflict, systemError, unavailable } from "../../src/common/errors.ts";
import type { AgentAddress } from "../../src/agent-client/address.ts";
import { agentSeccomp } from "../../src/backends/cloud/tasks/agent-seccomp.ts";
import { LaterStart } from "../../src/backends/driver/later-start.ts";
import type { InnerSocketMode } from "../../src/backends/driver/settings.ts";
import type { Driver } from "../../src/backends/driver/driver.ts";
import type {
  BoundPort,
  LaunchProgress,
  LostAgent,
  StepsOfStages,
} from "../../src/backends/driver/launches.ts";
import type { NetworkFabric } from "../../src/backends/driver/networks.ts";
import type { UnappliedSetting } from "../../src/backends/driver/settings.ts";
import type { VolumeRules, VolumeShortage } from "../../src/backends/driver/volumes.ts";
import type { WorkloadSpec } from "../../src/backends/driver/workload-spec.ts";
import type { FoundWorkload } from "../../src/backends/driver/workloads.ts";
import {
  agentsDialled,
  agentsJoin,
  directTraffic,
  downloadsRelayed,
  agentsOnSockets,
  fixedLimits,
  namespacesShared,
  nothingPrepared,
  noNameFiles,
  nothingFound,
  nothingSealed,
  plainLaunches,
  siteAtHand,
  portsOfDriver,
  portsOfFrontend,
  silentAgentsAreGone,
  uploadsRelayed,
  diskFromAgents,
} from "../../src/backends/driver/ready-made-roles.ts";
import { unlessAborted } from "../../src/backends/concurrency/unless-aborted.ts";
import type { StartRequestSchema } from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import {
  type ContainerRecord,
  type ImageRecord,
  type NetworkRecord,
  Phase,
  type SealedContainer,
  SealedContainerSchema,
  type VolumeRecord,
} from "../../src/gen/sockerless/state/v1/state_pb.ts";
import { ProcessAgent } from "./process-agent.ts";

interface Workload {
  spec: WorkloadSpec;
  agent: ProcessAgent | undefined;
  /** An agent of a step that has ended waits for the next one. */
  isKept?: boolean;
  boundPorts: readonly BoundPort[];
  exit: FoundWorkload["exit"];
  execExits: ReadonlyMap<string, number>;
  /** State that was told with the start. */
  sealed?: SealedContainer;
}

/** Workloads, volumes and networks, which survive the backend. A driver of it can be made again and again. */
export class MemoryMachine {
  readonly directory: string;
  readonly workloads = new Map<string, Workload>();
  readonly volumes = new Set<string>();
  /** Directories of volumes that are mounted apart from the whole: `volume/subpath`. */
  readonly volumeParts = new Set<string>();
  readonly networks = new Set<string>();
  /** Records of volumes and networks as their tags tell them in a cloud. */
  readonly volumeRecords = new Map<string, VolumeRecord>();
  readonly networkRecords = new Map<string, NetworkRecord>();
  /** Running containers' connections: `id network`. */
  readonly legs = new Set<string>();
  /** Roles' calls in order: `create 0123…`, `launch`, `release`, `remove`. */
  readonly calls: string[] = [];
  /** Host ports in use by somebody else. */
  readonly takenPorts = new Set<number>();
  /**
   * True for a cloud: addresses of endpoints are virtual, agents are told the process, and what exists tells
   * what it is.
   */
  cloud: boolean = false;
  /** The sockets of containers that bind a Docker socket; undefined: host paths are mounted here. */
  dockerSocket: InnerSocketMode | undefined;
  /** Holds back all answers about what exists while it is set: until it is resolved, or with its failure. */
  silence: PromiseWithResolvers<void> | undefined;
  /** Work of a cloud container's agent between its answer and its start. */
  preparation: () => Promise<void> = () => Promise.resolve();
  /** Number of questions that wait for the end of the silence. */
  unansweredQuestions: number = 0;
  /** While it is set there is no room: launches wait until it is resolved. */
  room: PromiseWithResolvers<void> | undefined;
  /** Why: launches that find it busy only wait to be tried again. */
  roomIs: "full" | "busy" = "full";
  /** Calls that fail: of workloads, those that make volumes, and those that remove volumes, but by force. */
  readonly refused = new Set<"release" | "remove" | "make volume" | "remove volume">();
  /** Names of volumes that were removed by force. */
  readonly forcedVolumes: string[] = [];
  /** While it is set no network is made: until it is resolved. */
  busyNetworks: PromiseWithResolvers<void> | undefined;
  /** The next removal of a volume waits until it is resolved. */
  busyRemoval: PromiseWithResolvers<void> | undefined;
  /** While it is set releases are under way: until it is resolved. */
  busyReleases: PromiseWithResolvers<void> | undefined;
  /** While it is set launches are under way: until it is resolved, or fail with its failure. */
  busyLaunches: PromiseWithResolvers<void> | undefined;
  /** Containers whose creation was cut off. */
  readonly unfinished = new Set<string>();
  /** Containers of a cloud have addresses for one another. */
  reachOneAnother: boolean = true;
  /** While it is set volumes and networks are made and removed, and nobody says so: until the driver is closed. */
  isMute: boolean = false;
  /** Containers whose agents do not tell what they are. */
  readonly unanswered = new Set<string>();
  /** The start that containers run by, where that is later than the one that is asked for. */
  laterStart = 0n;
  /** How often the driver was asked for a workload. */
  finds: number = 0;
  /** Events: IDs of containers whose ends the platform reports by itself. */
  readonly ends = new EventEmitter();

  /** The driver remembers nothing of what it has launched. */
  hasLostBooks = false;
  /** Drivers end runs past their agents, and tell it before; undefined: they cannot. */
  endsPastAgents: ((containerId: string, signal: AbortSignal) => unknown) | undefined;
  /** Has the engine tell of a shortage; undefined: nobody watches. */
  tellShortage: ((shortage: VolumeShortage) => Promise<void>) | undefined;
  /** Settings that it accepts and does not apply. */
  notApplied: (record: ContainerRecord) => readonly UnappliedSetting[] = () => [];
  /** Another driver's networks; undefined: its own. */
  networkFabric: NetworkFabric | undefined;
  /** Another driver's rules of volumes; undefined: its own. */
  volumeRules: VolumeRules | undefined;
  /** It keeps for others where steps of builds ran; undefined: they go on in what is there. */
  keepsSteps: boolean | undefined;
  /** Agents begin what they are told to, and their answers are lost. */
  losesStarts = false;
  /** A container that is asked for by itself is not told yet. */
  endsAreLate = false;
  /** Agents wait for the attachments of a start however long they take. */
  hasPatientAgents = false;
  /** Agents answer a start only then. */
  startAnswers: Promise<void> = Promise.resolve();
  /** Agents that are lost once their launch has returned. */
  lostAfterLaunch = 0;
  /** Agents that do not answer once their launch has returned, until the next. */
  awayAfterLaunch = 0;
  /** Losses of agents in starts that the driver was asked to judge, and its answer. */
  readonly judgedLosses: LostAgent[] = [];
  launchesAgain = ({ isTold }: LostAgent): boolean => !isTold;
  /** Agents in a cloud that are lost after they have answered, each of which another one follows. */
  lostAgents = 0;
  #sockets = 0;

  /** @param directory short: unix sockets are made in it */
  constructor(directory: string) {
    this.directory = directory;
  }

  /** The agent of a container's run. */
  agentOf(containerId: string): ProcessAgent {
    const agent = this.workloads.get(containerId)?.agent;
    if (agent === undefined) {
      throw new Error(`no agent of container ${containerId}`);
    }
    return agent;
  }

  /** Ends everything. */
  async close(): Promise<void> {
    for (const workload of this.workloads.values()) {
      await workload.agent?.stop();
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A driver of this machine. */
  driver(): Driver {
    const closed = Promise.withResolvers<never>();
    closed.promise.catch(() => undefined);
    const told = <T>(answer: T): Promise<T> => (this.isMute ? closed.promise : Promise.resolve(answer));
    return {
      name: "local",
      settings: {
        unsupported: (record) => (record.hostConfig?.privileged === true ? ["--privileged"] : []),
        unsupportedByExecs: ({ privileged }) => (this.cloud && privileged ? ["exec --privileged"] : []),
        notApplied: (record) => this.notApplied(record),
      },
      site: this.cloud
        ? {
            kind: "remote",
            startPatienceMs: 200,
            known: () => [...this.#books].map(([id, workload]) => found(id, workload)),
            abandon: () => undefined,
          }
        : siteAtHand,
      launches: {
        stopDuringLaunch: this.cloud ? "end" : "await",
        steps: this.#steps(),
        startDetails: (spec) => (this.cloud ? this.#startDetails(spec) : plainLaunches.startDetails(spec)),
        started: plainLaunches.started,
        mayLaunchAgain: async (_, lost) => {
          this.judgedLosses.push(lost);
          return this.launchesAgain(lost);
        },
      },
      silentAgents:
        this.endsPastAgents === undefined
          ? silentAgentsAreGone
          : {
              kind: "away",
              end: async (containerId, signal) => {
                await this.endsPastAgents?.(containerId, signal);
                await this.#end(containerId);
              },
            },
      authority: agentsOnSockets,
      seals: this.cloud ? { ...nothingSealed, seal: sealedHere } : nothingSealed,
      limits: fixedLimits("local"),
      ports: this.cloud ? portsOfFrontend : portsOfDriver,
      hostPaths:
        this.dockerSocket === undefined
          ? { kind: "mounted", exists: async (path) => existsSync(path) }
          : { kind: "ignored", dockerSocket: this.dockerSocket },
      sharing: this.cloud ? agentsJoin : namespacesShared,
      traffic: directTraffic,
      agentReach: agentsDialled,
      prepared: nothingPrepared,
      workloads: {
        create: async (spec) => {
          this.calls.push("create");
          this.#workload(spec);
        },
        launch: async (spec, signal, progress) => {
          await this.#awaitRoom(signal, progress);
          if (spec.record.generation < this.laterStart) {
            throw new LaterStart(this.laterStart, "the machine");
          }
          const from = new Date();
          let launched = await this.#launch(spec, signal);
          progress.phase({ name: "launch", by: "backend", from, until: new Date() });
          if (this.cloud) {
            await progress.reached(launched);
            await this.preparation();
          }
          for (; this.cloud && this.lostAgents > 0; this.lostAgents--) {
            const workload = this.#workload(spec);
            await workload.agent?.crash();
            workload.agent = undefined;
            launched = await this.#launch(spec, signal);
            await progress.reached(launched);
          }
          if (this.lostAfterLaunch > 0) {
            this.lostAfterLaunch -= 1;
            const workload = this.#workload(spec);
            await workload.agent?.crash();
            workload.agent = undefined;
          }
          if (this.awayAfterLaunch > 0) {
            this.awayAfterLaunch -= 1;
            const { socket } = this.agentOf(spec.record.id).options;
            await rename(socket, `${socket}.away`);
          }
          return launched;
        },
        release: async (containerId) => {
          this.calls.push("release");
          this.#refuse("release");
          await this.busyReleases?.promise;
          await this.#end(containerId);
        },
        remove: async (containerId) => {
          this.calls.push("remove");
          this.#refuse("remove");
          await this.#end(containerId);
          this.workloads.delete(containerId);
        },
        list: () => this.#list(),
        find: async (id) => {
          this.finds++;
          const workload = (await this.#list()).find(({ containerId }) => containerId === id);
          if (this.endsAreLate) {
            throw unavailable("how a run has ended is told later");
          }
          const isOver = this.cloud && workload?.agent === undefined && workload?.exit !== undefined;
          return isOver ? { ...workload, begunAt: workload.exit.finishedAt } : workload;
        },
        nameFilePaths: noNameFiles,
        onEnd: (id, ended) => {
          this.ends.once(id, ended);
          return () => this.ends.off(id, ended);
        },
        interruptionOf: () => "",
        wholeLog: () => undefined,
        stored: () => ({ kind: "unix", path: path.join(this.directory, "stored") }),
        storedServed: () => Promise.resolve(),
      },
      images: {
        keepsOwn: true,
        prepare: async () => "",
        uploads: uploadsRelayed,
        downloads: downloadsRelayed,
        discard: async () => {},
        unpacking: {
          kind: "driver",
          unpack: async () => undefined,
          forget: async () => {},
          known: async () => [],
        },
      },
      networks: this.networkFabric ?? {
        bridgeSettings: "apply",
        endpointAddresses: this.cloud ? "virtual" : "real",
        ensure: async (record) => {
          await this.busyNetworks?.promise;
          const { network } = record;
          this.networks.add(network?.name ?? "");
          this.networkRecords.set(network?.id ?? "", { ...record, phase: Phase.UNSPECIFIED });
          return await told(`reference of ${network?.name}`);
        },
        remove: async ({ network }) => {
          this.networkRecords.delete(network?.id ?? "");
          this.networks.delete(network?.name ?? "");
          await told(undefined);
        },
        connect: async ({ after, network }) => {
          this.legs.add(`${after.id} ${network.network?.name}`);
        },
        disconnect: async ({ before, network }) => {
          this.legs.delete(`${before.id} ${network.network?.name}`);
        },
        found: () => (this.cloud ? this.#answered(() => [...this.networkRecords.values()]) : nothingFound()),
        renamed: ({ name }) => void this.calls.push(`renamed ${name}`),
        usedRoutes: async () => ["10.0.0.0/8", "172.17.5.0/24"],
      },
      volumes: {
        rules: this.volumeRules ?? {
          drivers: [
            { name: "local", sharing: "shared", content: "here-without-options" },
            { name: "single", sharing: "exclusive", content: "here" },
          ],
          usedBy: this.cloud ? "running" : "any",
          forceOnUsed: "refuse",
        },
        parts: {
          kind: "made",
          create: async ({ name }, subpath) => {
            this.volumeParts.add(`${name}/${subpath}`);
            return `reference of ${subpath}`;
          },
        },
        found: () => this.#foundVolumes(),
        watchRoom: async (tell) => {
          this.tellShortage = tell;
        },
        create: async (record) => {
          const { name } = record;
          if (this.refused.has("make volume")) {
            throw systemError("no space left on device");
          }
          this.volumes.add(name);
          this.volumeRecords.set(name, { ...record, phase: Phase.UNSPECIFIED });
          return await told({ reference: name, mountpoint: `/volumes/${name}/_data`, status: {} });
        },
        remove: async ({ name, parts }, force = false) => {
          const busy = this.busyRemoval?.promise;
          this.busyRemoval = undefined;
          await busy;
          if (force) {
            this.forcedVolumes.push(name);
          } else if (this.refused.has("remove volume")) {
            throw conflict("volume is in use");
          }
          parts.forEach(({ subpath }) => {
            this.volumeParts.delete(`${name}/${subpath}`);
          });
          this.volumeRecords.delete(name);
          this.volumes.delete(name);
          await told(undefined);
        },
      },
      machine: {
        quotas: async () => [],
        facts: async () => ({
          name: "machine",
          operatingSystem: "Test",
          osVersion: "1",
          kernelVersion: "6.0",
          architecture: "x86_64",
          ncpu: 2,
          memTotal: 1n << 32n,
          storageDriver: "overlay2",
          storageStatus: [],
          cgroupDriver: "cgroupfs",
          cgroupVersion: "1",
          cgroupControllers: [],
          runtimes: [{ name: "runc", path: "/usr/bin/runc", version: "1.1.5", commit: "v1.1.5-0-gf19387a6" }],
          securityOptions: [],
          warnings: [],
          maskedPaths: ["/proc/kcore", "/sys/of-this-machine"],
          readonlyPaths: ["/proc/sys"],
        }),
      },
      disk: diskFromAgents,
      close: async () => {
        closed.reject(unavailable("the machine is left"));
        await setImmediate(); // Calls that were cut are acted on while there is a state.
      },
    };
  }

  #list(): Promise<FoundWorkload[]> {
    return this.#answered(() =>
      [...this.workloads].map(([containerId, workload]) => ({
        ...found(containerId, workload),
        unfinished: this.unfinished.has(containerId),
        laterRuns: this.laterStart > 0n,
        ...(this.unanswered.has(containerId)
          ? { agent: undefined, unanswered: true }
          : this.cloud && keptBy(workload)),
      })),
    );
  }

  #workload(spec: WorkloadSpec): Workload {
    const known = this.workloads.get(spec.record.id);
    if (known !== undefined) {
      return known;
    }
    const workload: Workload = {
      spec,
      agent: undefined,
      boundPorts: [],
      exit: undefined,
      execExits: new Map(),
    };
    this.workloads.set(spec.record.id, workload);
    return workload;
  }

  #refuse(call: "release" | "remove"): void {
    if (this.refused.has(call)) {
      throw unavailable("the machine is away");
    }
  }

  async #awaitRoom(signal: AbortSignal, { waits, goesOn }: LaunchProgress): Promise<void> {
    if (this.room !== undefined) {
      const given = Promise.withResolvers<never>();
      signal.addEventListener("abort", () => given.reject(unavailable("no room", signal.reason)));
      waits(`the machine is ${this.roomIs}`, this.roomIs === "full" ? "room" : "try");
      await Promise.race([this.room.promise, given.promise]);
      goesOn();
    }
  }

  async #launch(spec: WorkloadSpec, signal: AbortSignal) {
    this.calls.push("launch");
    await (this.cloud
      ? unlessAborted(signal, this.busyLaunches?.promise ?? Promise.resolve())
      : this.busyLaunches?.promise);
    const { record } = spec;
    const workload = this.#workload(spec);
    if (workload.agent?.options.generation !== record.generation) {
      const bindings = record.hostConfig?.portBindings ?? [];
      const taken = bindings.find(({ hostPort }) => this.takenPorts.has(Number(hostPort)));
      if (taken !== undefined) {
        throw systemError(`Bind for 0.0.0.0:${taken.hostPort} failed: port is already allocated`);
      }
      if (spec.network.kind === "networks") {
        for (const { name } of spec.network.networks) {
          this.legs.add(`${record.id} ${name}`);
        }
      }
      workload.spec = spec;
      workload.exit = undefined;
      workload.isKept = false;
      workload.boundPorts = bindings.map(({ containerPort, hostPort }) => ({
        protocol: "tcp",
        hostIp: "0.0.0.0",
        hostPort: Number(hostPort),
        containerPort: Number(containerPort.replace("/tcp", "")),
      }));
      await workload.agent?.stop(); // One that was not released.
      this.#sockets += 1;
      workload.agent = await ProcessAgent.listen({
        socket: path.join(this.directory, `${this.#sockets}.sock`),
        containerId: record.id,
        generation: record.generation,
        args: spec.args,
        env: spec.env,
        losesStarts: this.losesStarts,
        isPatient: this.hasPatientAgents,
        startAnswers: this.startAnswers,
      });
    }
    const { socket } = workload.agent.options;
    if (existsSync(`${socket}.away`)) {
      await rename(`${socket}.away`, socket);
    }
    return {
      agent: addressOf(workload),
      boundPorts: this.cloud ? [] : workload.boundPorts,
      reference: this.cloud ? `task ${this.#sockets}` : "",
      ...(this.cloud && { address: this.reachOneAnother ? `10.9.0.${this.#sockets}` : "" }),
    };
  }

  /** Workloads as far as a backend's own books know; they are lost with its state. */
  get #books(): ReadonlyMap<string, Workload> {
    return this.hasLostBooks ? new Map() : this.workloads;
  }

  /** Volumes as their tags tell them in a cloud; else, as on a machine, no more than their names. */
  async #foundVolumes(): Promise<readonly VolumeRecord[]> {
    const records = (): VolumeRecord[] => [...this.volumeRecords.values()];
    return this.cloud
      ? await this.#answered(records)
      : records().map((record) => ({ ...record, labels: {}, anonymous: false, phase: Phase.CREATING }));
  }

  async #answered<T>(answer: () => T): Promise<T> {
    this.unansweredQuestions += 1;
    await this.silence?.promise;
    this.unansweredQuestions -= 1;
    return answer();
  }

  async #startDetails(spec: WorkloadSpec): Promise<MessageInitShape<typeof StartRequestSchema>> {
    this.#workload(spec).sealed = sealedOf(spec.record, [spec.image]);
    const { hostConfig } = spec.record;
    const seccomp = hostConfig && agentSeccomp(hostConfig, "amd64");
    return { process: { args: [...spec.args], env: [...spec.env], ...(seccomp && { seccomp }) } };
  }

  #steps(): StepsOfStages {
    if (this.keepsSteps === undefined) {
      return { kind: "in-its-files" };
    }
    return {
      kind: "in-fresh-files",
      leave: async (containerId) => {
        this.calls.push("leave");
        await this.#end(containerId);
        Object.assign(this.workloads.get(containerId) ?? {}, { isKept: this.keepsSteps === true });
        return this.keepsSteps === true;
      },
    };
  }

  async #end(containerId: string): Promise<void> {
    const workload = this.workloads.get(containerId);
    const agent = workload?.agent;
    if (workload === undefined) {
      return;
    }
    workload.isKept = false;
    if (agent === undefined) {
      return;
    }
    await agent.stop();
    for (const leg of this.legs) {
      if (leg.startsWith(containerId)) {
        this.legs.delete(leg);
      }
    }
    Object.assign(workload, { agent: undefined, ...endOf(agent) });
  }
}

function sealedOf(container: ContainerRecord, images: readonly ImageRecord[]): SealedContainer {
  return create(SealedContainerSchema, { container, images: images.map((record) => ({ record })) });
}

async function sealedHere(container: ContainerRecord, images: readonly ImageRecord[]) {
  return {
    specification: toBinary(SealedContainerSchema, sealedOf(container, images)),
    seal: new Uint8Array(),
  };
}

/** Finds what a backend without a state learns of a workload. */
function keptBy({ sealed, agent }: Workload): Pick<FoundWorkload, "record" | "images"> {
  const kept = agent?.resealed === undefined ? sealed : fromBinary(SealedContainerSchema, agent.resealed);
  return kept?.container === undefined ? {} : { record: kept.container, images: kept.images };
}

function found(
  containerId: string,
  { spec, agent, isKept, boundPorts, exit, execExits }: Workload,
): FoundWorkload {
  const isAlive = agent !== undefined && agent.exit === undefined;
  return {
    containerId,
    generation: spec.record.generation,
    agent: isAlive || isKept === true ? { kind: "unix", path: agent?.options.socket ?? "" } : undefined,
    boundPorts,
    ...(agent === undefined ? { exit, execExits } : endOf(agent)),
  };
}

function endOf(agent: ProcessAgent): Pick<FoundWorkload, "exit" | "execExits"> {
  const { exit } = agent;
  return {
    exit: exit && {
      code: exit.code,
      oomKilled: exit.oomKilled,
      finishedAt: new Date(Number(exit.finishedAt?.seconds ?? 0n) * 1000),
    },
    execExits: agent.execExits,
  };
}

function addressOf({ agent }: Workload): AgentAddress {
  if (agent === undefined) {
    throw new Error("the workload has no agent");
  }
  return { kind: "unix", path: agent.options.socket };
}
