/** The executions of all jobs. */
import type { Context } from "../../context.ts";
import type { JobBody, TemplateBody } from "./bodies.ts";
import {
  type ContainerEnd,
  ExecutionRun,
  type ExecutionStatus,
  randomName,
  type RunServices,
} from "./execution-run.ts";

/** An execution that is remembered. */
export interface Execution {
  readonly name: string;
  readonly jobName: string;
  readonly template: TemplateBody;
  readonly run: ExecutionRun;
  /** Simulated milliseconds since the epoch, from which on it is seen in lists and by its name. */
  readonly visibleAt: number;
}

/** An execution as a test sees it. */
export interface SeenExecution {
  readonly name: string;
  readonly job: string;
  readonly status: ExecutionStatus;
  /** Its replica's address, while it has one. */
  readonly address: string | undefined;
  readonly replicas: readonly string[];
  /** Process 1 of its containers by name, as this machine numbers them. */
  readonly pids: ReadonlyMap<string, number>;
  /** How containers ended, or why they did not begin. */
  readonly ends: readonly ContainerEnd[];
  /** Resolves when it has ended and nothing of it is left on this machine. */
  readonly finished: Promise<void>;
}

/** Finished executions of a job that the service remembers. */
const remembered = 100;

export class Executions {
  readonly #context: Context;
  readonly #services: RunServices;
  #all: Execution[] = [];
  readonly #unfinished = new Set<ExecutionRun>();

  constructor(context: Context, services: RunServices) {
    this.#context = context;
    this.#services = services;
  }

  start(jobName: string, job: JobBody, template: TemplateBody): Execution {
    const { clock, switches } = this.#context;
    const name = `${jobName}-${randomName(7)}`;
    const run = new ExecutionRun(this.#services, { name, jobName, job, template });
    const visibleAt = clock.nowMs() + switches.eventualConsistencyMs;
    const execution = { name, jobName, template, run, visibleAt };
    this.#all.push(execution);
    this.#unfinished.add(run);
    void run.finished.catch(() => {}).then(() => this.#unfinished.delete(run));
    this.#forget(jobName);
    return execution;
  }

  /** Executions of a job that can be seen, the newest first. */
  of(jobName: string): readonly Execution[] {
    const now = this.#context.clock.nowMs();
    return this.#all.filter((each) => each.jobName === jobName && each.visibleAt <= now).toReversed();
  }

  /** Every execution, seen or not. */
  all(): readonly Execution[] {
    return this.#all;
  }

  /** Kills a deleted job's executions. */
  remove(jobName: string): void {
    for (const { run } of this.#all.filter((each) => each.jobName === jobName)) {
      if (!run.isOver) {
        run.stop();
      }
    }
    this.#all = this.#all.filter((each) => each.jobName !== jobName);
  }

  see({ name, jobName, run }: Execution): SeenExecution {
    const { machine } = this.#services;
    return {
      name,
      job: jobName,
      status: run.status,
      address: run.network?.endpoint.privateIpAddress,
      replicas: run.replicas,
      get pids() {
        return new Map([...run.pids].map(([container, pid]) => [container, machine?.hostPid(pid) ?? 0]));
      },
      ends: run.ends,
      finished: run.finished,
    };
  }

  /** Ends everything at the end of the simulator. */
  async end(): Promise<void> {
    const runs = [...this.#unfinished];
    for (const run of runs) {
      run.abandon();
    }
    await this.#services.machine?.switchOff();
    await Promise.allSettled(runs.map(({ finished }) => finished));
  }

  #forget(jobName: string): void {
    const over = this.#all.filter((each) => each.jobName === jobName && each.run.isOver);
    const forgotten = new Set(over.slice(0, Math.max(0, over.length - remembered)));
    this.#all = this.#all.filter((each) => !forgotten.has(each));
  }
}
