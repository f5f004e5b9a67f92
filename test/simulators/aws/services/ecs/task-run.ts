/** The way of one task: from RunTask to STOPPED. */
import type { Cloud } from "../../cloud.ts";
import type { Context } from "../../context.ts";
import type { Machine } from "../../../common/machine/machine.ts";
import type { MachineTask, TaskListener } from "../../../common/machine/task.ts";
import { ipv6ResolverAddress, type TaskNetwork } from "../../../common/machine/vpc.ts";
import { AwsFault } from "../../wire/service.ts";
import { type LineSink, openLogStream } from "./log-streams.ts";
import type { TaskCredentials } from "./metadata.ts";
import { fargateHost } from "./fargate-host.ts";
import { pullImage } from "./pulling.ts";
import { enforceGroups } from "./security-groups.ts";
import { StartFailed, type StartFailures } from "./start-failures.ts";
import { containerSpecs, taskMemory } from "./task-spec.ts";
import type { TaskState } from "./task-state.ts";
import { openVolumes } from "./task-volumes.ts";

/** Services and settings that the runs of all tasks have in common. */
export interface RunServices {
  readonly context: Context;
  readonly cloud: Cloud;
  readonly failures: StartFailures;
  /** The machine on which tasks really run; undefined: they only go through the motions. */
  readonly machine: Machine | undefined;
  /** Gives tasks the credentials of their roles. */
  readonly credentials: TaskCredentials;
  /** Called once a task has its interface; may answer another address for it, at which something listens. */
  readonly onTask: ((task: TaskState) => string | undefined) | undefined;
}

/** ECS' reason for the end of a task whose essential container has ended. */
export const essentialExited = "Essential container in task exited";

/** One task on its way. */
export class TaskRun {
  readonly task: TaskState;
  /** Resolves when the task's last status is STOPPED. */
  readonly stopped: Promise<void>;
  /** Resolves when nothing of the task is left on the machine; rejects with a fault of the simulator itself. */
  readonly finished: Promise<void>;
  readonly #services: RunServices;
  readonly #stopping = new AbortController();
  readonly #killed = new AbortController();
  #abandoned = false;
  /** The error of a simulator that did not do what it should: no fault of the task's. */
  #fault: unknown;
  #machineTask: MachineTask | undefined;
  #network: TaskNetwork | undefined;

  constructor(services: RunServices, task: TaskState) {
    this.#services = services;
    this.task = task;
    this.stopped = this.#run();
    this.finished = this.#cleanUp();
  }

  /** Ends the task for a reason; the first one counts. */
  stop(stopCode: Parameters<TaskState["wantStopped"]>[0], reason: string): void {
    this.task.wantStopped(stopCode, reason);
    this.#stopping.abort();
    this.#machineTask?.stop();
  }

  /** Ends the task as if its machine had been switched off. */
  kill(stopCode: Parameters<TaskState["wantStopped"]>[0], reason: string): void {
    this.#killed.abort();
    this.#machineTask?.kill();
    this.stop(stopCode, reason);
  }

  /** Gives the task up, because the machine has been switched off: failures on its way are of no interest. */
  abandon(): void {
    this.#abandoned = true;
    this.#killed.abort();
    this.#stopping.abort();
  }

  /** The network of the task, while it runs on the machine. */
  get network(): TaskNetwork | undefined {
    return this.#network;
  }

  /** Process 1 of each container that was started, as the machine's namespaces number them. */
  get pids(): ReadonlyMap<string, number> {
    return this.#machineTask?.pids ?? new Map();
  }

  async #run(): Promise<void> {
    try {
      await this.#provision();
      await this.#activate();
    } catch (error) {
      this.#failed(error);
    }
    await this.#windUp();
  }

  async #provision(): Promise<void> {
    const { context, cloud, machine, onTask } = this.#services;
    await this.#pass(context.delays.provisioning);
    this.#failOnDemand("interface");
    const networkInterface = this.#createInterface();
    if (machine !== undefined) {
      await enforceGroups(cloud.network, machine.vpc, networkInterface.groupIds);
      this.#network = await machine.vpc.attach(networkInterface);
    }
    this.task.attached(networkInterface, onTask?.(this.task));
    this.task.advance("PENDING");
    await this.#pass(context.delays.pending);
    this.task.advance("ACTIVATING");
  }

  async #activate(): Promise<void> {
    const { context, machine } = this.#services;
    if (machine === undefined || this.#network === undefined) {
      await this.#pretend();
      return;
    }
    const sinks = this.#openLogs();
    const machineTask = await this.#prepare(machine, this.#network, sinks);
    await this.#pass(context.delays.pull);
    this.#machineTask = machineTask;
    await machineTask.run();
  }

  async #prepare(
    machine: Machine,
    network: TaskNetwork,
    sinks: ReadonlyMap<string, LineSink>,
  ): Promise<MachineTask> {
    const { context, cloud, credentials } = this.#services;
    const { task } = this;
    const roleArn = task.overrides.taskRoleArn ?? task.definition.taskRoleArn;
    const { networkInterface } = task;
    if (networkInterface === undefined) {
      throw new Error(`${task.id} has no interface`);
    }
    const { privateIpAddress } = network.endpoint;
    const resolver = privateIpAddress.includes(":") ? ipv6ResolverAddress : machine.vpc.resolverAddress;
    this.#failOnDemand("mount");
    const volumes = await openVolumes(machine, cloud, task, networkInterface);
    this.#failOnDemand("pull");
    task.pulling(true);
    const executionRoleArn = task.overrides.executionRoleArn ?? task.definition.executionRoleArn;
    const pulled = (task.definition.containerDefinitions ?? []).map(async (container) => {
      const image = await pullImage(machine.images, cloud, container, executionRoleArn);
      task.changeContainer(container.name ?? "", { imageDigest: image.digest });
      return [container.name ?? "", image] as const;
    });
    const images = new Map(await Promise.all(pulled));
    task.pulling(false);
    return machine.task(
      {
        id: task.id,
        network,
        host: fargateHost(privateIpAddress, context.region, resolver),
        memoryLimit: taskMemory(task),
        containers: containerSpecs(task, {
          region: context.region,
          images,
          volumes,
          credentialsId: roleArn === undefined ? undefined : credentials.issue(roleArn, task.id),
        }),
      },
      this.#listener(sinks),
    );
  }

  #listener(sinks: ReadonlyMap<string, LineSink>): TaskListener {
    const { task } = this;
    const waiting = new Set((task.definition.containerDefinitions ?? []).map(({ name = "" }) => name));
    return {
      onRunning: (name) => {
        task.changeContainer(name, { lastStatus: "RUNNING", runtimeId: `${task.id}-${runtimeNumber()}` });
        waiting.delete(name);
        if (waiting.size === 0) {
          this.#allRunning();
        }
      },
      onEnded: (name, exitCode, reason) => {
        task.changeContainer(name, {
          lastStatus: "STOPPED",
          ...(exitCode !== undefined && { exitCode }),
          ...(reason !== undefined && { reason }),
        });
        if (exitCode === undefined && reason !== undefined) {
          this.stop("TaskFailedToStart", reason);
        } else if (this.#isEssential(name)) {
          this.stop("EssentialContainerExited", essentialExited);
        }
      },
      onLines: (name, lines) => sinks.get(name)?.(lines),
    };
  }

  #allRunning(): void {
    const { context } = this.#services;
    context.clock.after(context.delays.activating, () => {
      if (this.task.desiredStatus === "RUNNING") {
        this.task.advance("RUNNING");
      }
    });
  }

  /** Shows a task without containers as if it ran, until it is stopped. */
  async #pretend(): Promise<void> {
    const { context } = this.#services;
    await this.#pass(context.delays.pull);
    const names = (this.task.definition.containerDefinitions ?? []).map(({ name = "" }) => name);
    for (const name of names) {
      const done = this.#isEssential(name)
        ? { lastStatus: "RUNNING" }
        : { lastStatus: "STOPPED", exitCode: 0 };
      this.task.changeContainer(name, done);
    }
    await this.#pass(context.delays.activating);
    this.task.advance("RUNNING");
    await new Promise<void>((resolve) => {
      this.#stopping.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    for (const name of names.filter((each) => this.#isEssential(each))) {
      this.task.changeContainer(name, { lastStatus: "STOPPED", exitCode: 143 });
    }
  }

  async #windUp(): Promise<void> {
    const { context, cloud } = this.#services;
    const { task } = this;
    task.executionStopped();
    for (const { name = "" } of task.definition.containerDefinitions ?? []) {
      task.changeContainer(name, { lastStatus: "STOPPED" });
    }
    for (const status of ["DEACTIVATING", "STOPPING", "DEPROVISIONING"] as const) {
      task.advance(status);
      await context.clock.sleep(context.delays.stopping / 3, this.#killed.signal).catch(() => {});
    }
    const { networkInterface } = task;
    if (networkInterface !== undefined) {
      cloud.network.deleteInterface(networkInterface.networkInterfaceId);
    }
    task.detached();
    task.advance("STOPPED");
  }

  /** Cleans up behind the answers, since taking namespaces away takes longer than making them. */
  async #cleanUp(): Promise<void> {
    await this.stopped;
    const { machine } = this.#services;
    try {
      await this.#machineTask?.remove();
      if (machine !== undefined && this.#network !== undefined) {
        await machine.vpc.detach(this.#network);
        this.#network = undefined;
      }
    } catch (error) {
      this.#failed(error);
    }
    if (this.#fault !== undefined) {
      throw this.#fault;
    }
  }

  #createInterface() {
    const { cloud } = this.#services;
    const { subnetIds, groupIds } = this.task.placement;
    const [subnetId = ""] = subnetIds;
    try {
      return cloud.network.createInterface({ subnetId, groupIds, description: this.task.taskArn });
    } catch (error) {
      if (error instanceof AwsFault) {
        throw new StartFailed(
          `Unexpected EC2 error while attempting to Create Network Interface in subnet '${subnetId}': ${error.code}`,
          "TaskFailedToStart",
          error,
        );
      }
      throw error;
    }
  }

  #openLogs(): ReadonlyMap<string, LineSink> {
    const { context, cloud } = this.#services;
    this.#failOnDemand("logs");
    const executionRoleArn = this.task.overrides.executionRoleArn ?? this.task.definition.executionRoleArn;
    return new Map(
      (this.task.definition.containerDefinitions ?? []).map((container) => [
        container.name ?? "",
        openLogStream(context, cloud, container, this.task.id, executionRoleArn),
      ]),
    );
  }

  /** Lets simulated time pass, unless the task is to stop. */
  async #pass(ms: number): Promise<void> {
    await this.#services.context.clock.sleep(ms, this.#stopping.signal);
  }

  #failOnDemand(kind: "interface" | "mount" | "pull" | "logs"): void {
    const failure = this.#services.failures.take(kind, this.task);
    if (failure !== undefined) {
      throw failure;
    }
  }

  /** Ends the task after any error: a task that stayed as it is would keep its test waiting, and say nothing. */
  #failed(error: unknown): void {
    if (error instanceof StartFailed) {
      this.task.wantStopped(error.stopCode, error.message);
    } else if (error !== this.#stopping.signal.reason && !this.#abandoned) {
      this.#fault ??= error;
      this.task.wantStopped("TaskFailedToStart", `the simulator failed: ${String(error)}`);
      this.#machineTask?.kill();
    }
  }

  #isEssential(name: string): boolean {
    const found = this.task.definition.containerDefinitions?.find((each) => each.name === name);
    return found?.essential !== false;
  }
}

/** The number at the end of a container's runtime ID on Fargate. */
function runtimeNumber(): string {
  return String(Math.floor(Math.random() * 1e10)).padStart(10, "0");
}
