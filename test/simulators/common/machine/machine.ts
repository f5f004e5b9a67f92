/**
 * The machine of one simulator, on which its tasks really run. It knows nothing of a cloud's wire: tasks come as its
 * own types, and the other services are not asked.
 */
import { mkdir } from "node:fs/promises";
import path from "node:path";

import { recordName } from "../../../support/made.ts";
import { removeCgroup } from "./cgroups.ts";
import { Enclosure } from "./enclosure.ts";
import { FileSystemViews } from "./file-systems.ts";
import { cgroupOf, claimDirectory } from "./leftovers.ts";
import { ImageStore } from "./images.ts";
import { MachineTask, type TaskHost, type TaskListener, type TaskSpec } from "./task.ts";
import { Vpc } from "./vpc.ts";

/** Settings of a machine, and the clock that it sleeps by. */
export interface MachineOptions {
  /**
   * The simulator's own directory, named `prefix-random`; its owner removes it with all that the machine puts there.
   * Directories with the same prefix whose processes are gone are removed.
   */
  readonly directory: string;
  /** Milliseconds of the simulated clock. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export class Machine implements AsyncDisposable {
  readonly vpc: Vpc;
  readonly images: ImageStore;
  readonly fileSystems: FileSystemViews;
  readonly #host: TaskHost;
  readonly #stack: AsyncDisposableStack;

  private constructor(host: TaskHost, vpc: Vpc, stack: AsyncDisposableStack) {
    this.#host = host;
    this.vpc = vpc;
    this.fileSystems = new FileSystemViews(host.enclosure, path.join(host.directory, "efs"));
    this.images = new ImageStore(path.join(host.directory, "images"));
    this.#stack = stack;
  }

  static async start(options: MachineOptions): Promise<Machine> {
    await using stack = new AsyncDisposableStack();
    const directory = path.join(options.directory, "machine");
    await mkdir(directory);
    await claimDirectory(options.directory);
    const cgroup = cgroupOf(options.directory);
    recordName(path.basename(cgroup));
    stack.defer(() => removeCgroup(cgroup));
    const enclosure = stack.use(await Enclosure.start());
    const vpc = stack.use(await Vpc.start(enclosure));
    const sleep = (ms: number, signal?: AbortSignal): Promise<void> => options.sleep(ms, signal);
    return new Machine({ enclosure, directory, cgroup, sleep }, vpc, stack.move());
  }

  /** Makes a task on this machine; nothing of it runs before it is told to. */
  task(spec: TaskSpec, listener: TaskListener): MachineTask {
    return new MachineTask(this.#host, spec, listener);
  }

  /** Directory of a task's files on the machine. */
  taskDirectory(taskId: string): string {
    return path.join(this.#host.directory, "tasks", taskId);
  }

  /** This machine's PID of a process; undefined once it has ended. @param pid as numbered in the enclosure */
  hostPid(pid: number): number | undefined {
    return this.#host.enclosure.hostPid(pid);
  }

  /** Ends every process at once; everything asked of the machine fails from now on, and tasks end. */
  async switchOff(): Promise<void> {
    await this.vpc[Symbol.asyncDispose]();
    await this.#host.enclosure[Symbol.asyncDispose]();
  }

  /** Ends every task and takes everything away. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.switchOff();
    await this.#stack.disposeAsync();
  }
}
