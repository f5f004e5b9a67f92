/** The tasks of the account: started, listed, stopped, and forgotten an hour after. */
import { randomBytes } from "node:crypto";
import type { Failure, RunTaskCommandInput } from "@aws-sdk/client-ecs";

import type { Given } from "../../wire/service.ts";
import { ClientTokens } from "./client-tokens.ts";
import type { EcsCluster } from "./clusters.ts";
import type { RegisteredDefinition } from "./definitions.ts";
import { type EcsTags, ecsTagMap } from "./ecs-tags.ts";
import { refuseNotSimulatedRun } from "./not-simulated.ts";
import { checkAssumable } from "./roles.ts";
import { capacityProviderOf, checkRunTask, placementOf } from "./run-task-request.ts";
import { type RunServices, TaskRun } from "./task-run.ts";
import { TaskState } from "./task-state.ts";

/** Time for which a stopped task is remembered. */
const memoryMs = 60 * 60 * 1000;

const vcpuLimit = "You've reached the limit on the number of vCPUs you can run concurrently";

/** The result of a RunTask. */
export interface Launched {
  readonly tasks: readonly TaskState[];
  readonly failures: readonly Failure[];
}

export class Tasks {
  readonly #services: RunServices;
  readonly #tags: EcsTags;
  readonly #tokens = new ClientTokens();
  readonly #runs = new Map<string, TaskRun>();
  /** Runs that have something on the machine, remembered or not. */
  readonly #unfinished = new Set<TaskRun>();
  /** The vCPUs of tasks that have not stopped. */
  readonly #vcpus = { spot: 0, onDemand: 0 };
  /** Stopped tasks of before, which a repeated RunTask answers still. */
  readonly #launched = new Map<string, TaskState>();

  constructor(services: RunServices, tags: EcsTags) {
    this.#services = services;
    this.#tags = tags;
  }

  runs(): readonly TaskRun[] {
    return [...this.#runs.values()];
  }

  /** Finds a task of one cluster by its ARN or the ID at the ARN's end; undefined once it is forgotten. */
  find(clusterArn: string, reference: string): TaskRun | undefined {
    const id = reference.slice(reference.lastIndexOf("/") + 1);
    const run = this.#runs.get(id);
    return run?.task.clusterArn === clusterArn && (reference === id || reference === run.task.taskArn)
      ? run
      : undefined;
  }

  /** Whether reads see a task yet. */
  isVisible({ createdAtMs }: TaskState): boolean {
    const { clock, switches } = this.#services.context;
    return clock.nowMs() - createdAtMs >= switches.eventualConsistencyMs.ecs;
  }

  /** @throws AwsFault for what RunTask refuses */
  launch(
    request: Given<RunTaskCommandInput>,
    cluster: EcsCluster,
    definition: RegisteredDefinition,
  ): Launched {
    const { context, cloud } = this.#services;
    refuseNotSimulatedRun(request);
    checkRunTask(request, definition);
    const placement = placementOf(request, cloud.network);
    const capacityProviderName = capacityProviderOf(request);
    const { overrides = {}, clientToken } = request;
    checkAssumable(context, overrides.taskRoleArn ?? definition.taskRoleArn);
    checkAssumable(context, overrides.executionRoleArn ?? definition.executionRoleArn);
    const known = clientToken && this.#tokens.find(cluster.name, clientToken, request, context.clock.nowMs());
    if (known) {
      return { tasks: known.flatMap((arn) => this.#launched.get(arn) ?? []), failures: [] };
    }
    const task = new TaskState(context, {
      id: randomBytes(16).toString("hex"),
      clusterName: cluster.name,
      definition,
      request,
      placement,
      capacityProviderName,
    });
    const reason = this.#services.failures.take("capacity", task)?.message ?? this.#quotaReason(task);
    if (reason !== undefined) {
      return { tasks: [], failures: [{ reason }] };
    }
    this.#tags.set(task.taskArn, ecsTagMap(request.tags));
    this.#start(task);
    if (clientToken !== undefined) {
      this.#tokens.record(cluster.name, clientToken, request, [task.taskArn], context.clock.nowMs());
    }
    return { tasks: [task], failures: [] };
  }

  /** Stops a task, and takes its tags away at once, as ECS does. */
  stop(run: TaskRun, reason: string): void {
    this.#tags.forget(run.task.taskArn);
    run.stop("UserInitiated", reason);
  }

  /** Lets a task be gone at once, from the machine and from every answer. */
  vanish(run: TaskRun): void {
    run.kill("TerminationNotice", "");
    this.#forget(run.task);
  }

  /** Ends every task at once; resolves when none is on its way any more. */
  async end(): Promise<void> {
    const runs = [...this.#unfinished];
    for (const run of runs) {
      run.abandon();
    }
    await this.#services.machine?.switchOff();
    await Promise.all(runs.map(({ finished }) => finished));
  }

  #start(task: TaskState): void {
    const run = new TaskRun(this.#services, task);
    this.#runs.set(task.id, run);
    this.#unfinished.add(run);
    void run.finished.then(() => this.#unfinished.delete(run));
    this.#launched.set(task.taskArn, task);
    const { clock } = this.#services.context;
    const kind = task.isSpot ? "spot" : "onDemand";
    this.#vcpus[kind] += task.vcpus;
    void run.stopped.then(() => {
      this.#vcpus[kind] -= task.vcpus;
      this.#tokens.taskStopped(task.taskArn, clock.nowMs());
      clock.after(memoryMs, () => this.#forget(task));
    });
  }

  #forget(task: TaskState): void {
    this.#runs.delete(task.id);
    this.#tags.forget(task.taskArn);
  }

  #quotaReason(task: TaskState): string | undefined {
    const { quotas } = this.#services.context;
    const used = task.isSpot ? this.#vcpus.spot : this.#vcpus.onDemand;
    const quota = task.isSpot ? quotas.fargateSpotVcpus : quotas.fargateVcpus;
    return used + task.vcpus <= quota ? undefined : vcpuLimit;
  }
}
