/** The containers of one task on the machine: started in the order of their dependencies, ended together. */
import { randomBytes } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";

import { type ContainerSpec, UnusableDefinition } from "./bundle.ts";
import { limitMemory, removeCgroup } from "./cgroups.ts";
import { Container, type ContainerExit, ContainerNotStarted } from "./container.ts";
import type { Enclosure } from "./enclosure.ts";
import { type HealthCheck, type HealthStatus, watchHealth } from "./health.ts";
import type { TaskNetwork } from "./vpc.ts";

/** A condition that another container must have reached before one is made. */
export interface Dependency {
  readonly containerName: string;
  readonly condition: "START" | "COMPLETE" | "SUCCESS" | "HEALTHY";
}

/** A container of a task. */
export interface TaskContainerSpec extends ContainerSpec {
  /** Whether its end is the end of the task. */
  readonly essential: boolean;
  readonly dependsOn: readonly Dependency[];
  /** Milliseconds that its dependencies have; absent: as long as they take. */
  readonly startTimeoutMs?: number;
  /** Milliseconds between the stop signal and SIGKILL. */
  readonly stopTimeoutMs: number;
  readonly healthCheck?: HealthCheck;
}

/** The machine of a task as a cloud shows it to the containers. */
export interface TaskSurroundings {
  readonly hostname: string;
  /** Files that the cloud writes for a container, by name; the path is `/etc/` and the name. */
  readonly etcFiles: Readonly<Record<string, string>>;
  /** The cloud's words for a container that ran out of memory. */
  readonly outOfMemory: string;
  /** The cloud's words for a container that could not be started. @param why the runtime's */
  readonly describeFailure: (why: string) => string;
}

/** A task as its definition, its overrides and its place describe it. */
export interface TaskSpec {
  /** ID that no other task of the simulator has. */
  readonly id: string;
  readonly network: TaskNetwork;
  readonly host: TaskSurroundings;
  readonly memoryLimit: number;
  /** Whether all containers see one another's processes. */
  readonly sharesProcesses: boolean;
  readonly containers: readonly TaskContainerSpec[];
}

/** A listener to the containers of a task; each one's end is told once. */
export interface TaskListener {
  onRunning(container: string): void;
  /** @param reason why it never ran, or why its end was not its own */
  onEnded(container: string, exitCode: number | undefined, reason: string | undefined): void;
  onHealth(container: string, health: HealthStatus): void;
  onLines(container: string, lines: readonly string[]): void;
}

/** The part of the machine that all tasks of a simulator share. */
export interface TaskHost {
  readonly enclosure: Enclosure;
  readonly directory: string;
  /** The control group above all tasks'. */
  readonly cgroup: string;
  /** Milliseconds of the simulated clock. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

interface Member {
  readonly spec: TaskContainerSpec;
  readonly started: PromiseWithResolvers<void>;
  readonly healthy: PromiseWithResolvers<void>;
  readonly ended: PromiseWithResolvers<number | undefined>;
  container: Container | undefined;
}

/** A task that has been given to the machine. */
export class MachineTask {
  readonly id: string;
  readonly network: TaskNetwork;
  readonly #host: TaskHost;
  readonly #spec: TaskSpec;
  readonly #listener: TaskListener;
  readonly #members: ReadonlyMap<string, Member>;
  readonly #ending = new AbortController();
  readonly #killed = new AbortController();
  #pause: Container | undefined;

  constructor(host: TaskHost, spec: TaskSpec, listener: TaskListener) {
    this.id = spec.id;
    this.network = spec.network;
    this.#host = host;
    this.#spec = spec;
    this.#listener = listener;
    this.#members = new Map(
      spec.containers.map((container) => {
        const member: Member = {
          spec: container,
          started: Promise.withResolvers(),
          healthy: Promise.withResolvers(),
          ended: Promise.withResolvers(),
          container: undefined,
        };
        for (const condition of [member.started, member.healthy]) {
          condition.promise.catch(() => {}); // it may be that nobody depends on it
        }
        return [container.name, member];
      }),
    );
  }

  /** The processes of the containers that run, as the enclosure numbers them, by container. */
  get pids(): ReadonlyMap<string, number> {
    const running = [...this.#members.values()].flatMap(({ spec, container }) =>
      container === undefined ? [] : [[spec.name, container.pid] as const],
    );
    return new Map(running);
  }

  /** Runs the containers; resolves when all have ended. */
  async run(): Promise<void> {
    await limitMemory(this.#cgroup, this.#spec.memoryLimit);
    if (this.#spec.sharesProcesses) {
      await this.#startPause();
    }
    await Promise.all([...this.#members.values()].map((member) => this.#runMember(member)));
    await this.#pause?.kill("KILL");
  }

  /** Ends every container: its stop signal first, SIGKILL when its time is up. */
  stop(): void {
    this.#ending.abort();
  }

  /** Ends every container by SIGKILL. */
  kill(): void {
    this.#killed.abort();
    this.stop();
  }

  /** Takes away what the containers leave; they have ended. */
  async remove(): Promise<void> {
    const containers = [...this.#members.values()].map(({ container }) => container);
    await Promise.all([...containers, this.#pause].map((container) => container?.remove()));
    await removeCgroup(this.#cgroup);
    await rm(path.join(this.#host.directory, "tasks", this.id), { recursive: true, force: true });
  }

  get #cgroup(): string {
    return `${this.#host.cgroup}/${this.id}`;
  }

  async #runMember(member: Member): Promise<void> {
    const { spec } = member;
    let exit: ContainerExit | undefined;
    let reason: string | undefined;
    try {
      await this.#awaitDependencies(spec);
      const container = await this.#launch(member);
      exit = await this.#follow(member, container);
      reason = exit.outOfMemory ? this.#spec.host.outOfMemory : undefined;
    } catch (error) {
      reason = reasonOf(error, this.#spec.host);
    }
    if (spec.essential || exit === undefined) {
      this.stop();
    }
    member.started.reject(new DependencyFailed(spec.name));
    member.healthy.reject(new DependencyFailed(spec.name));
    member.ended.resolve(exit?.exitCode);
    this.#listener.onEnded(spec.name, exit?.exitCode, reason);
  }

  async #awaitDependencies({ name, dependsOn, startTimeoutMs }: TaskContainerSpec): Promise<void> {
    const { signal } = this.#ending;
    const conditions = dependsOn.map(async ({ containerName, condition }) => {
      const dependency = this.#members.get(containerName);
      if (dependency === undefined) {
        throw new Error(`${containerName}: no such container`);
      }
      if (condition === "START" || condition === "HEALTHY") {
        await (condition === "START" ? dependency.started : dependency.healthy).promise;
      } else if ((await dependency.ended.promise) !== 0 && condition === "SUCCESS") {
        throw new DependencyFailed(containerName, name);
      }
    });
    const limits = [once(signal)];
    if (startTimeoutMs !== undefined && dependsOn.length > 0) {
      limits.push(
        this.#host.sleep(startTimeoutMs, signal).then(() => Promise.reject(new DependencyTimedOut(name))),
      );
    }
    await Promise.race([Promise.all(conditions), ...limits]);
    signal.throwIfAborted();
  }

  async #launch(member: Member): Promise<Container> {
    const { spec } = member;
    const container = await this.#start(spec, (lines) => this.#listener.onLines(spec.name, lines));
    member.container = container;
    member.started.resolve();
    this.#listener.onRunning(spec.name);
    return container;
  }

  async #follow(member: Member, container: Container): Promise<ContainerExit> {
    const { spec } = member;
    const ended = new AbortController();
    const watching = Promise.all([
      this.#endWhenAsked(spec, container, ended.signal),
      this.#watchHealth(member, container, ended.signal),
    ]);
    try {
      // An error in watching ends the wait: a container that cannot be watched or ended may never exit.
      return await Promise.race([container.exited, watching.then(() => container.exited)]);
    } finally {
      ended.abort();
      await watching;
    }
  }

  async #watchHealth({ spec, healthy }: Member, container: Container, signal: AbortSignal): Promise<void> {
    if (spec.healthCheck === undefined) {
      return;
    }
    await watchHealth(spec.healthCheck, {
      execute: (command) => container.execute(command),
      sleep: (ms, over) => this.#host.sleep(ms, over),
      signal,
      onChange: (status) => {
        this.#listener.onHealth(spec.name, status);
        if (status === "HEALTHY") {
          healthy.resolve();
        }
      },
    });
  }

  async #endWhenAsked(spec: TaskContainerSpec, container: Container, ended: AbortSignal): Promise<void> {
    await once(AbortSignal.any([this.#ending.signal, ended]));
    await this.#end(spec, container, ended);
  }

  async #end(
    { stopTimeoutMs, image }: TaskContainerSpec,
    container: Container,
    ended: AbortSignal,
  ): Promise<void> {
    if (ended.aborted) {
      return;
    }
    if (!this.#killed.signal.aborted) {
      await container.kill(image.config.StopSignal || "TERM");
      const over = AbortSignal.any([ended, this.#killed.signal]);
      await this.#host.sleep(stopTimeoutMs, over).catch(() => {}); // it ended by itself, or has no time any more
    }
    if (!ended.aborted) {
      await container.kill("KILL");
    }
  }

  async #start(spec: ContainerSpec, onLines: (lines: readonly string[]) => void): Promise<Container> {
    const { host, network } = this.#spec;
    const { enclosure, directory } = this.#host;
    return await Container.start({
      enclosure,
      spec,
      surroundings: {
        networkNamespace: network.namespace,
        ...(this.#pause !== undefined && { pidNamespace: `/proc/${this.#pause.pid}/ns/pid` }),
        hostname: host.hostname,
        cgroup: `${this.#cgroup}/${spec.name}`,
        initProgram: enclosure.program,
      },
      id: `${this.id}-${spec.name}-${randomBytes(2).toString("hex")}`,
      directory: path.join(directory, "tasks", this.id, spec.name),
      runtimeRoot: path.join(directory, "runc"),
      etcFiles: host.etcFiles,
      onLines,
    });
  }

  /** Holds the PID namespace that all containers share, as a pause container does. */
  async #startPause(): Promise<void> {
    const rootfs = path.join(this.#host.directory, "pause");
    await mkdir(path.join(rootfs, "etc"), { recursive: true });
    this.#pause = await this.#start(
      {
        name: "internal.pause",
        image: { digest: "", rootfs, config: {} },
        entryPoint: ["/dev/init", "pause"],
        environment: {},
        readonlyRootFilesystem: true,
        binds: [{ source: this.#host.enclosure.program, target: "/dev/init", readOnly: true }],
        tmpfs: [],
        ulimits: [],
        sysctls: {},
        addCapabilities: [],
        dropCapabilities: [],
        init: false,
        memoryLimit: this.#spec.memoryLimit,
        cpuShares: 2,
      },
      () => {},
    );
  }
}

/** The failure of a dependency: the container that another one waits for did not get as far. */
class DependencyFailed extends Error {
  constructor(dependency: string, container = "") {
    super(
      `dependency graph: failed to resolve the container ordering dependency [${dependency}] for target [${container}] as dependency did not exit successfully.`,
    );
  }
}

class DependencyTimedOut extends Error {
  constructor(container: string) {
    super(`dependency graph: container ordering dependency for target [${container}] has timed out.`);
  }
}

/** Resolves when the signal aborts. */
function once(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    } else {
      signal.addEventListener("abort", () => resolve(), { once: true });
    }
  });
}

function reasonOf(error: unknown, host: TaskSurroundings): string | undefined {
  if (error instanceof DependencyFailed || error instanceof DependencyTimedOut) {
    return error.message;
  }
  if (error instanceof ContainerNotStarted || error instanceof UnusableDefinition) {
    return host.describeFailure(error.message);
  }
  if (error instanceof DOMException && error.name === "AbortError") {
    return undefined; // the task ended before this container's turn
  }
  throw error;
}
