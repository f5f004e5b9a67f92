/** The containers of one task on the machine: started in the order of their dependencies, ended together. */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import path from "node:path";

import { type ContainerSpec, UnusableDefinition } from "./bundle.ts";
import { limitMemory, removeCgroup } from "./cgroups.ts";
import { Container, type ContainerExit, ContainerNotStarted } from "./container.ts";
import type { Enclosure } from "./enclosure.ts";
import type { TaskNetwork } from "./vpc.ts";

/** A container of a task. */
export interface TaskContainerSpec extends ContainerSpec {
  /** Whether its end is the end of the task. */
  readonly essential: boolean;
  /** Containers that must have succeeded before this one is made. */
  readonly dependsOn: readonly string[];
  /** Milliseconds between the stop signal and SIGKILL. */
  readonly stopTimeoutMs: number;
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
  readonly containers: readonly TaskContainerSpec[];
}

/** A listener to the containers of a task; each one's end is told once. */
export interface TaskListener {
  onRunning(container: string): void;
  /** @param reason why it never ran, or why its end was not its own */
  onEnded(container: string, exitCode: number | undefined, reason: string | undefined): void;
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

  constructor(host: TaskHost, spec: TaskSpec, listener: TaskListener) {
    this.id = spec.id;
    this.network = spec.network;
    this.#host = host;
    this.#spec = spec;
    this.#listener = listener;
    this.#members = new Map(
      spec.containers.map((container) => [
        container.name,
        { spec: container, ended: Promise.withResolvers(), container: undefined },
      ]),
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
    await Promise.all([...this.#members.values()].map((member) => this.#runMember(member)));
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
    await Promise.all(containers.map((container) => container?.remove()));
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
    member.ended.resolve(exit?.exitCode);
    this.#listener.onEnded(spec.name, exit?.exitCode, reason);
  }

  async #awaitDependencies({ name, dependsOn }: TaskContainerSpec): Promise<void> {
    const { signal } = this.#ending;
    const successes = dependsOn.map(async (dependency) => {
      if ((await this.#members.get(dependency)?.ended.promise) !== 0) {
        throw new DependencyFailed(dependency, name);
      }
    });
    await Promise.race([Promise.all(successes), once(signal)]);
    signal.throwIfAborted();
  }

  async #launch(member: Member): Promise<Container> {
    const { spec } = member;
    const container = await this.#start(spec, (lines) => this.#listener.onLines(spec.name, lines));
    member.container = container;
    this.#listener.onRunning(spec.name);
    return container;
  }

  async #follow({ spec }: Member, container: Container): Promise<ContainerExit> {
    const ended = new AbortController();
    const ending = this.#endWhenAsked(spec, container, ended.signal);
    try {
      // An error in ending ends the wait: a container that cannot be ended may never exit.
      return await Promise.race([container.exited, ending.then(() => container.exited)]);
    } finally {
      ended.abort();
      await ending;
    }
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
        hostname: host.hostname,
        cgroup: `${this.#cgroup}/${spec.name}`,
      },
      id: `${this.id}-${spec.name}-${randomBytes(2).toString("hex")}`,
      directory: path.join(directory, "tasks", this.id, spec.name),
      runtimeRoot: path.join(directory, "runc"),
      etcFiles: host.etcFiles,
      onLines,
    });
  }
}

/** The failure of a dependency: the container that another one waits for did not get as far. */
class DependencyFailed extends Error {
  constructor(dependency: string, container: string) {
    super(
      `dependency graph: failed to resolve the container ordering dependency [${dependency}] for target [${container}] as dependency did not exit successfully.`,
    );
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
  if (error instanceof DependencyFailed) {
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
