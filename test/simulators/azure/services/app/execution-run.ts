/** The way of one execution of a job: from its start to its last status. */
import { randomInt } from "node:crypto";
import { chmod, mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";

import type { Context } from "../../context.ts";
import { memoryLimit } from "../../../common/machine/limits.ts";
import type { Machine } from "../../../common/machine/machine.ts";
import type { MachineTask, TaskContainerSpec } from "../../../common/machine/task.ts";
import type { TaskNetwork } from "../../../common/machine/vpc.ts";
import type { ContainerBody, JobBody, TemplateBody, VolumeBody } from "./bodies.ts";
import { parseMountOptions, sizeOf } from "./job-rules.ts";
import { ImageRefused, type Puller } from "./pulling.ts";

/** The status of an execution. */
export type ExecutionStatus =
  | "Running"
  | "Processing"
  | "Stopped"
  | "Degraded"
  | "Failed"
  | "Unknown"
  | "Succeeded";

/** A share as a job mounts it, or what the file server says. */
export interface ShareMounts {
  /**
   * The directory to bind into a container.
   *
   * @throws Error whose message is the mount's
   */
  mount(request: {
    readonly environmentId: string;
    readonly volume: VolumeBody;
    readonly options: ReadonlyMap<string, string>;
  }): Promise<Mounted>;
}

/** A volume of a replica. */
export interface Mounted {
  /** The directory to bind, which need not be there outside the machine's own namespaces. */
  readonly directory: string;
  /** The directory where its files lie. */
  readonly files: string;
  readonly readOnly: boolean;
}

/** A line of a container on its way to Log Analytics. */
export interface ConsoleLine {
  readonly environmentId: string;
  readonly execution: string;
  readonly replica: string;
  readonly container: string;
  readonly text: string;
}

/** Services that the runs of all executions have in common. */
export interface RunServices {
  readonly context: Context;
  /** The machine on which replicas really run; undefined: they only go through the motions. */
  readonly machine: Machine | undefined;
  readonly puller: Puller | undefined;
  readonly shares: ShareMounts;
  /** Addresses for replicas. */
  readonly addresses: { take(): string; giveBack(address: string): void };
  /** Whether the next replica of a job fails before any of its containers runs. */
  losesReplica(job: string): boolean;
  onLine(line: ConsoleLine): void;
}

/** One execution as it was asked for. */
export interface ExecutionRequest {
  readonly name: string;
  readonly jobName: string;
  readonly job: JobBody;
  readonly template: TemplateBody;
}

/** How a container of a replica ended. */
export interface ContainerEnd {
  readonly replica: string;
  readonly container: string;
  /** Absent: it never ran. */
  readonly exitCode?: number;
  readonly reason?: string;
}

/** Kubernetes gives a replica so long between SIGTERM and SIGKILL. */
const graceMs = 30_000;
const mib = 2 ** 20;
const letters = "bcdfghjklmnpqrstvwxz2456789";

/** Random characters as in names of Kubernetes' pods. */
export function randomName(length: number): string {
  return Array.from({ length }, () => letters[randomInt(letters.length)]).join("");
}

/** A running execution. */
export class ExecutionRun {
  status: ExecutionStatus;
  /** The status that the API tells instead of the true one. */
  told: ExecutionStatus | undefined;
  readonly startedAt: Date;
  endedAt: Date | undefined;
  /** Ends of containers, of all replicas in order. */
  readonly ends: ContainerEnd[] = [];
  /** Names of its replicas: the first, and one for each retry. */
  readonly replicas: string[] = [];
  /** Resolves when nothing of it is left on the machine; rejects with a fault of the simulator itself. */
  readonly finished: Promise<void>;
  readonly #services: RunServices;
  readonly #request: ExecutionRequest;
  readonly #stopping = new AbortController();
  readonly #pretended = Promise.withResolvers<number>();
  #verdict: "Stopped" | "Failed" | undefined;
  #task: MachineTask | undefined;
  #network: TaskNetwork | undefined;
  #abandoned = false;
  /** Whether its containers have ended by themselves: a stop comes too late then. */
  #isDecided = false;

  constructor(services: RunServices, request: ExecutionRequest) {
    const { clock } = services.context;
    this.#services = services;
    this.#request = request;
    this.status = "Running";
    this.startedAt = clock.now();
    const timeout = request.job.properties?.configuration?.replicaTimeout ?? 1;
    const cancel = clock.after(timeout * 1000, () => this.#end("Failed"));
    this.finished = this.#run().finally(cancel);
    this.finished.catch(() => {}); // whoever waits for it is told
  }

  get network(): TaskNetwork | undefined {
    return this.#network;
  }

  get isOver(): boolean {
    return this.endedAt !== undefined;
  }

  /** Process 1 of each container that runs, as the enclosure numbers them. */
  get pids(): ReadonlyMap<string, number> {
    return this.#task?.pids ?? new Map();
  }

  /** Ends it: SIGTERM, and SIGKILL 30 s later. */
  stop(): void {
    this.#end("Stopped");
  }

  /** Ends it at once. */
  kill(): void {
    this.#end("Stopped");
    this.#task?.kill();
  }

  /** Kills its containers as if their machine had failed: retries are as configured. */
  crash(): void {
    this.#task?.kill();
  }

  /** Gives it up, because the machine has been switched off. */
  abandon(): void {
    this.#abandoned = true;
    this.kill();
  }

  /** Lets the containers of an execution that does not really run end. */
  pretendEnd(exitCode: number): void {
    this.#pretended.resolve(exitCode);
  }

  #end(verdict: "Stopped" | "Failed"): void {
    if (this.#isDecided) {
      return;
    }
    this.#verdict ??= verdict;
    this.#stopping.abort();
    this.#task?.stop();
  }

  async #run(): Promise<void> {
    const { context } = this.#services;
    let isSuccess = false;
    try {
      await this.#pass(context.delays.scheduling);
      isSuccess = await this.#runReplica();
      this.#isDecided = true;
      await context.clock.sleep(context.delays.ending);
    } catch (error) {
      if (error !== this.#stopping.signal.reason && !this.#abandoned) {
        this.#verdict = "Failed";
        throw error;
      }
    } finally {
      this.status = this.#verdict ?? (isSuccess ? "Succeeded" : "Failed");
      this.endedAt = context.clock.now();
    }
  }

  async #runReplica(): Promise<boolean> {
    const { machine, puller } = this.#services;
    const replica = `${this.#request.name}-${randomName(5)}`;
    this.replicas.push(replica);
    if (this.#services.losesReplica(this.#request.jobName)) {
      return false;
    }
    if (machine === undefined || puller === undefined) {
      return await this.#pretend(replica);
    }
    const address = this.#services.addresses.take();
    try {
      const network = await machine.vpc.attach({
        privateIpAddress: address,
        macAddress: "0a:00:00:00:00:02",
        subnet: { cidr: machine.vpc.cidr, routerAddress: machine.vpc.hostAddress },
        groupIds: [replicaGroup],
      });
      this.#network = network;
      try {
        return await this.#runTask(machine, puller, network, replica);
      } finally {
        await machine.vpc.detach(network);
        this.#network = undefined;
      }
    } finally {
      this.#services.addresses.giveBack(address);
    }
  }

  async #runTask(machine: Machine, puller: Puller, network: TaskNetwork, replica: string): Promise<boolean> {
    const { context } = this.#services;
    const containers = await this.#containers(machine, puller, replica);
    await this.#pass(context.delays.pull);
    const ends: ContainerEnd[] = [];
    const task = machine.task(
      {
        id: replica,
        network,
        host: {
          hostname: replica,
          etcFiles: {
            hostname: `${replica}\n`,
            hosts: `127.0.0.1 localhost\n${network.endpoint.privateIpAddress} ${replica}\n`,
            "resolv.conf": `nameserver ${machine.vpc.resolverAddress}\noptions ndots:5\n`,
          },
          outOfMemory: "OOMKilled",
          describeFailure: (why) => `ContainerCreateFailed: ${why}`,
        },
        memoryLimit: containers.reduce((sum, { memoryLimit }) => sum + memoryLimit, 0),
        containers,
      },
      {
        onRunning: () => {},
        onEnded: (container, exitCode, reason) => {
          const end = {
            replica,
            container,
            ...(exitCode !== undefined && { exitCode }),
            ...(reason !== undefined && { reason }),
          };
          ends.push(end);
          this.ends.push(end);
        },
        onLines: (container, lines) => {
          for (const text of lines) {
            this.#log(replica, container, text);
          }
        },
      },
    );
    this.#task = task;
    try {
      if (!this.#stopping.signal.aborted) {
        await task.run();
      }
    } finally {
      this.#task = undefined;
      if (!this.#abandoned) {
        await task.remove();
      }
    }
    return ends.length > 0 && ends.every(({ exitCode }) => exitCode === 0);
  }

  get #bodies(): readonly ContainerBody[] {
    const { initContainers = [], containers = [] } = this.#request.template;
    return [...initContainers, ...containers];
  }

  async #containers(machine: Machine, puller: Puller, replica: string): Promise<TaskContainerSpec[]> {
    const volumes = await this.#openVolumes(machine, replica);
    const { initContainers = [] } = this.#request.template;
    const images = await Promise.all(this.#bodies.map((body) => this.#pull(puller, body)));
    const init = initContainers.map(({ name = "" }) => name);
    const specs: TaskContainerSpec[] = [];
    for (const [index, body] of this.#bodies.entries()) {
      const image = images[index];
      const { name = "", command, args, volumeMounts = [] } = body;
      if (image === undefined) {
        throw new Error(`container ${name} has no image`);
      }
      const before = index < init.length ? init.slice(0, index) : init;
      const { cpu, gib } = sizeOf(body);
      const binds = await Promise.all(
        volumeMounts.map(async ({ volumeName = "", mountPath = "", subPath = "" }) => {
          const volume = volumes.get(volumeName);
          if (volume === undefined) {
            throw new Error(`volume ${volumeName} is not there`);
          }
          await makeBelow(volume.files, subPath);
          return { source: join(volume.directory, subPath), target: mountPath, readOnly: volume.readOnly };
        }),
      );
      specs.push({
        name,
        image,
        ...(command !== undefined && { entryPoint: command }),
        ...(args !== undefined && { command: args }),
        environment: this.#environment(body, replica),
        readonlyRootFilesystem: false,
        binds,
        tmpfs: [],
        ulimits: [],
        sysctls: {},
        addCapabilities: [],
        memoryLimit: memoryLimit(gib * 1024 * mib),
        cpuShares: Math.max(2, Math.round(cpu * 1024)),
        essential: false,
        dependsOn: before,
        stopTimeoutMs: graceMs,
      });
    }
    return specs;
  }

  /** An image that cannot be pulled is tried again until the replica has no time left. */
  async #pull(puller: Puller, { name = "", image = "" }: ContainerBody) {
    for (;;) {
      try {
        return await puller.pull(image, this.#request.job);
      } catch (error) {
        if (!(error instanceof ImageRefused)) {
          throw error;
        }
        this.ends.push({
          replica: this.replicas.at(-1) ?? "",
          container: name,
          reason: `ImagePullBackOff: ${error.message}`,
        });
        await this.#pass(pullBackOffMs);
      }
    }
  }

  async #openVolumes(machine: Machine, replica: string): Promise<ReadonlyMap<string, Mounted>> {
    const { shares } = this.#services;
    const { job, template } = this.#request;
    const opened = (template.volumes ?? []).map(async (volume) => {
      const { name = "", storageType = "EmptyDir" } = volume;
      if (storageType === "EmptyDir") {
        const directory = join(machine.taskDirectory(replica), "volumes", name);
        await mkdir(directory, { recursive: true });
        await chmod(directory, 0o777);
        return [name, { directory, files: directory, readOnly: false }] as const;
      }
      const options = parseMountOptions(volume.mountOptions ?? "");
      const environmentId = job.properties?.environmentId ?? "";
      return [name, await this.#mount(() => shares.mount({ environmentId, volume, options }))] as const;
    });
    return new Map(await Promise.all(opened));
  }

  /** A share that cannot be mounted is tried again until the replica has no time left. */
  async #mount<T>(mount: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await mount();
      } catch (error) {
        const container = "";
        this.ends.push({
          replica: this.replicas.at(-1) ?? "",
          container,
          reason: `FailedMount: ${(error as Error).message}`,
        });
        await this.#pass(pullBackOffMs);
      }
    }
  }

  #environment({ env = [] }: ContainerBody, replica: string): Record<string, string> {
    const { name, jobName, job } = this.#request;
    const secrets = job.properties?.configuration?.secrets ?? [];
    const secretOf = (secretRef: string): string =>
      secrets.find((each) => each.name === secretRef)?.value ?? "";
    return {
      CONTAINER_APP_JOB_NAME: jobName,
      CONTAINER_APP_JOB_EXECUTION_NAME: name,
      CONTAINER_APP_REPLICA_NAME: replica,
      ...Object.fromEntries(
        env.map((each) => [
          each.name ?? "",
          each.secretRef === undefined ? (each.value ?? "") : secretOf(each.secretRef),
        ]),
      ),
    };
  }

  #log(replica: string, container: string, text: string): void {
    const { name, job } = this.#request;
    const environmentId = job.properties?.environmentId ?? "";
    this.#services.onLine({
      environmentId,
      execution: name,
      replica,
      container,
      text,
    });
  }

  /** Shows a replica without containers as if it ran, until it is stopped or told to end. */
  async #pretend(replica: string): Promise<boolean> {
    await this.#pass(this.#services.context.delays.pull);
    this.status = "Running";
    const { signal } = this.#stopping;
    const stopped = new Promise<number>((resolve) => {
      // Time that is put forward may have ended it since.
      if (signal.aborted) {
        resolve(143);
      }
      signal.addEventListener("abort", () => resolve(143), { once: true });
    });
    const exitCode = await Promise.race([this.#pretended.promise, stopped]);
    for (const { name = "" } of this.#request.template.containers ?? []) {
      this.ends.push({ replica, container: name, exitCode });
    }
    return exitCode === 0;
  }

  /** Lets simulated time pass, unless the execution is to end. */
  async #pass(ms: number): Promise<void> {
    await this.#services.context.clock.sleep(ms, this.#stopping.signal);
  }
}

/** The group of all replicas: they may reach this machine, as the Internet, and nothing may reach them. */
export const replicaGroup = "replicas";

const pullBackOffMs = 10_000;

/** Makes a directory of a volume, and follows no link out of it. */
async function makeBelow(files: string, subPath: string): Promise<void> {
  let directory = await realpath(files);
  for (const name of subPath.split("/").filter((part) => part !== "" && part !== ".")) {
    const below = join(directory, name);
    await mkdir(below, { recursive: true });
    directory = await realpath(below);
    if (directory !== below) {
      throw new Error(`subPath ${subPath} leads out of its volume`);
    }
  }
}
