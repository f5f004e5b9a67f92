/** Tasks of Container Apps: each is the only execution of a job, named `<job>/<execution>`. */
import type { Job, JobExecution } from "@azure/arm-appcontainers";

import type { Clock } from "../../../common/clock.ts";
import { conflict, ignoring, systemError } from "../../../common/errors.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { isUndone } from "../../cloud/contract/cloud-error.ts";
import type { CloudTasks, TaskAnswer, TaskView } from "../../cloud/contract/cloud-tasks.ts";
import type { Claimant } from "../../cloud/contract/prepared-tasks.ts";
import { endsUnreported } from "../../driver/ready-made-roles.ts";
import type { AzureClients } from "../arm/clients.ts";
import { AzureError, isMissing, isRefusedLogin, isUntold, UntoldOutcome } from "../arm/errors.ts";
import {
  containerTag,
  firstJobName,
  formatTask,
  generationTag,
  instanceTag,
  jobNameOf,
  parseTask,
  preparedJobName,
  type TaskName,
} from "../tags.ts";
import { withSecrets } from "./job.ts";
import { type JobRequest, parseRequest } from "./job-requests.ts";
import { isOver, type JobFacts, viewOf } from "./job-view.ts";
import { preparationOf } from "./prepared-jobs.ts";

/** Settings and dependencies of {@link ContainerJobs}. */
export interface ContainerJobsOptions {
  readonly azure: Pick<AzureClients, "apps" | "call">;
  readonly resourceGroup: string;
  /** Resource ID of the environment; other jobs of the resource group may be in another one. */
  readonly environmentId: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** The secret with which a start's agent proves its identity, in the job of this name. */
  readonly secretOf: (containerId: string, generation: bigint, job: string) => string;
  readonly registryPassword: string | undefined;
  /** Time limit of containers, in milliseconds. */
  readonly containerTimeMs: number;
  /** Whether a job's execution is recorded, so that it need not be searched for. */
  readonly isOnBooks: (job: string) => boolean;
  /** Resource ID of the environment that the job of a container that runs was requested in; undefined if it is not recorded. */
  readonly environmentOf: (job: string) => string | undefined;
  /** Whether a container has a task record. */
  readonly isContainer: (containerId: string) => boolean;
  /** Called with jobs whose execution has ended. */
  readonly ended: (job: string, containerId: string) => void;
  /** Called with jobs whose start has failed, so that it is unknown whether they run. */
  readonly failed: (job: string, containerId: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A job of sockerless. */
export interface FoundJob extends JobFacts {
  readonly name: string;
}

/** Poll interval of a long-running operation without `Retry-After`. */
const operationPollMs = 1_000;
/** Poll interval of a claim, which a container's start waits for. */
const claimPollMs = 200;
/** Maximum delay until a new execution is listed. */
const visibleAfterMs = 10_000;
const visiblePollMs = 1_000;
const createdStatus = 201;
/** Time until a new role assignment is effective everywhere. */
const grantDelayMs = 120_000;

/** The jobs of an instance. Every call throws AzureError. */
export class ContainerJobs implements CloudTasks {
  readonly names = {
    service: "Container Apps",
    run: "Jobs_Start",
    place: "environment",
    log: "Log Analytics",
    section: "aca",
  };
  readonly describedAtOnce = 1;
  readonly tellsPhases = false;
  readonly onEnd = endsUnreported;
  readonly grantDelayMs = grantDelayMs;
  readonly #options: ContainerJobsOptions;
  readonly #logger: Logger;
  readonly #facts = new Map<string, JobFacts>();
  /** Last statuses of executions other than `Unknown`, by task. */
  readonly #statuses = new Map<string, string>();
  /** Reasons for which this process stopped executions, by task. */
  readonly #stopped = new Map<string, string>();
  /** Jobs of recorded containers: once unreferenced, they are about to be deleted. */
  readonly #served = new Set<string>();
  /** Prepared jobs that no container's record names, from their request until they were seen running or have failed. */
  readonly #underWay = new Set<string>();
  /** Whether Azure may have started a job that this process created or asked to start. */
  readonly #starts = new Map<string, "none" | "maybe">();

  constructor(options: ContainerJobsOptions) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "jobs");
  }

  async run(request: string, signal: AbortSignal): Promise<TaskAnswer> {
    const asked = parseRequest(request);
    signal.throwIfAborted();
    this.#served.add(asked.name);
    if (preparationOf(asked.job) !== undefined) {
      this.#underWay.add(asked.name);
    }
    try {
      return { task: formatTask({ job: asked.name, execution: await this.#startOnce(asked) }) };
    } catch (error) {
      this.#underWay.delete(asked.name);
      if (error instanceof AzureError) {
        this.#options.failed(asked.name, asked.containerId);
        return { reason: error.message, cause: error, prospect: error.prospect };
      }
      throw error;
    }
  }

  /** Starts a job unless it was started before. @returns the execution's name */
  async #startOnce(asked: JobRequest): Promise<string> {
    const { name: job } = asked;
    await this.#put(asked);
    const isUnstarted = this.#starts.get(job) === "none";
    const execution = isUnstarted ? undefined : await this.#executionOf(job);
    if (execution !== undefined) {
      return execution;
    }
    this.#starts.set(job, "maybe");
    try {
      return await this.#start(job);
    } catch (error) {
      if (isUnstarted && isUndone(error)) {
        this.#starts.set(job, "none"); // Certain, so a repeated request need not search for an execution.
      }
      throw error;
    }
  }

  async stop(task: string, reason: string): Promise<void> {
    const { job, execution } = parseTask(task);
    const { azure, resourceGroup } = this.#options;
    if (isOver(this.#statuses.get(task) ?? "")) {
      return; // Not stopped by this process.
    }
    if (this.#stopped.has(task) && (await this.#hasEnded(task))) {
      return; // Azure has a lower rate for stops than for reads.
    }
    this.#stopped.set(task, reason);
    let isAccepted = false;
    try {
      await azure.call("Jobs_StopExecution", (options) =>
        azure.apps.jobs.beginStopExecution(resourceGroup, job, execution, {
          ...options,
          onResponse: ({ status }) => {
            isAccepted ||= isSuccess(status);
          },
        }),
      );
    } catch (error) {
      // An accepted operation continues even if reading its status is refused.
      if (!isAccepted && !isMissing(error) && !(await this.#hasEnded(task))) {
        throw error;
      }
    }
    if (isAccepted) {
      this.#logger.info({ task, reason }, "stopped a job's execution");
    }
  }

  async describe(tasks: readonly string[], signal: AbortSignal) {
    const views = await Promise.all(tasks.map((task) => this.#view(parseTask(task), signal)));
    return {
      views: views.filter((view) => view !== undefined),
      missing: tasks.filter((_, index) => views[index] === undefined),
    };
  }

  async listOwn(): Promise<readonly string[]> {
    const { isOnBooks, isContainer } = this.#options;
    const jobs = (await this.list()).filter(
      (job) =>
        !isOnBooks(job.name) &&
        (isWaiting(job) || !this.#served.has(job.name) || isContainer(job.containerId)),
    );
    const found = await Promise.all(
      jobs.map(async ({ name: job }) => {
        const executions = await this.#executions(job);
        return executions.map(({ name = "" }) => formatTask({ job, execution: name }));
      }),
    );
    return found.flat();
  }

  async isAnyRunning(): Promise<boolean> {
    const { azure, resourceGroup, environmentId } = this.#options;
    return await azure.call("Jobs_ListByResourceGroup", async (options) => {
      for await (const job of azure.apps.jobs.listByResourceGroup(resourceGroup, options)) {
        if (isIn(job, environmentId)) {
          const executions = await this.#executions(job.name ?? "");
          if (executions.some(({ status = "" }) => !isOver(status))) {
            return true;
          }
        }
      }
      return false;
    });
  }

  /** The part of an execution's name that identifies its lines in Log Analytics. */
  logStreamOf(task: string): string {
    return parseTask(task).execution;
  }

  /** The job of a task. @throws AzureError; not-found: there is no such job */
  async factsOf(task: string): Promise<JobFacts> {
    return await this.#factsOf(parseTask(task).job);
  }

  /** Tags a prepared job with the container that has claimed it; idempotent. */
  async claim(task: string, { containerId, launchGeneration }: Claimant, signal: AbortSignal): Promise<void> {
    const { azure, resourceGroup, instance } = this.#options;
    const { job } = parseTask(task);
    const tags = {
      [instanceTag]: instance,
      [containerTag]: containerId,
      [generationTag]: String(launchGeneration),
    };
    await azure.call(
      "Jobs_Update",
      async (options) => {
        const poller = await azure.apps.jobs.beginUpdate(
          resourceGroup,
          job,
          { tags },
          { ...options, updateIntervalInMs: claimPollMs },
        );
        await poller.pollUntilDone(options);
      },
      signal,
    );
    this.#facts.set(job, {
      ...(await this.#factsOf(job, signal)),
      containerId,
      generation: launchGeneration,
    });
  }

  /** Whether this process is about to start a job, or has just done so. */
  isBeingStarted(job: string): boolean {
    return this.#underWay.has(job);
  }

  /** This instance's jobs, with or without executions. */
  async list(): Promise<readonly FoundJob[]> {
    const { instance } = this.#options;
    return (await this.listAll()).filter((job) => job.instance === instance);
  }

  /**
   * The jobs of all instances of sockerless in the resource group. Another job may have our tags, by a copied template: its
   * name is not that of what they tell.
   */
  async listAll(): Promise<readonly FoundJob[]> {
    const { azure, resourceGroup } = this.#options;
    return await azure.call("Jobs_ListByResourceGroup", async (options) => {
      const found: FoundJob[] = [];
      for await (const job of azure.apps.jobs.listByResourceGroup(resourceGroup, options)) {
        const facts = factsOf(job);
        if (job.name === undefined || facts.instance === "") {
          continue;
        }
        if (firstJobName(job.name) !== nameOf(facts)) {
          this.#logger.info({ job: job.name }, "a job with the tags of another one is left alone");
        } else {
          this.#facts.set(job.name, facts);
          found.push({ ...facts, name: job.name });
        }
      }
      return found;
    });
  }

  /** Whether a job has an execution that has not ended. */
  async isRunning(job: string): Promise<boolean> {
    return (await this.#executions(job)).some(({ status = "" }) => !isOver(status));
  }

  /** Deletes a job, which ends its executions; no error if it is gone. */
  async remove(job: string): Promise<void> {
    const { azure, resourceGroup } = this.#options;
    await azure
      .call("Jobs_Delete", async (options) => {
        const poller = await azure.apps.jobs.beginDelete(resourceGroup, job, {
          ...options,
          updateIntervalInMs: operationPollMs,
        });
        await poller.pollUntilDone(options);
      })
      .catch(ignoring(isMissing));
    this.#facts.delete(job);
    this.#served.delete(job);
    this.#starts.delete(job);
    this.#underWay.delete(job);
    for (const known of [this.#statuses, this.#stopped]) {
      for (const task of known.keys()) {
        if (parseTask(task).job === job) {
          known.delete(task);
        }
      }
    }
  }

  /**
   * Creates a start's job unless it exists. @returns whether it may already have been started
   *
   * @throws conflict: another job has the name, and is left unchanged
   */
  async #put({ name, containerId, generation, job }: JobRequest): Promise<void> {
    const { azure, resourceGroup, secretOf, registryPassword } = this.#options;
    const there = await this.#get(name);
    if (there !== undefined) {
      refuseOther(name, factsOf(there), factsOf(job));
    }
    if (there?.provisioningState === "Succeeded") {
      this.#facts.set(name, factsOf(there));
      return;
    }
    const callback = secretOf(containerId, BigInt(generation), name);
    let status: number | undefined;
    try {
      await azure.call("Jobs_CreateOrUpdate", async (options) => {
        const poller = await azure.apps.jobs.beginCreateOrUpdate(
          resourceGroup,
          name,
          withSecrets(job, { callback, registryPassword }),
          {
            ...options,
            updateIntervalInMs: operationPollMs,
            onResponse(response) {
              status ??= response.status;
            },
          },
        );
        await poller.pollUntilDone(options);
      });
    } finally {
      // The previous lookup may have missed an existing job, and an update has the same answer.
      if (there === undefined && status === createdStatus && !this.#starts.has(name)) {
        this.#starts.set(name, "none");
      }
    }
    this.#facts.set(name, factsOf(job));
  }

  /**
   * Starts a job with its own template, as a template in the request would lose the mounts. @returns the execution's
   * name
   */
  async #start(job: string): Promise<string> {
    const { azure, resourceGroup } = this.#options;
    return await azure.call("Jobs_Start", async (options) => {
      let execution: string | undefined;
      let isAccepted = false;
      try {
        const poller = await azure.apps.jobs.beginStart(resourceGroup, job, {
          ...options,
          updateIntervalInMs: operationPollMs,
          onResponse({ status }, answer) {
            isAccepted ||= isSuccess(status);
            execution ??= (answer as { readonly name?: string } | undefined)?.name;
          },
        });
        if (execution === undefined) {
          ({ name: execution } = await poller.pollUntilDone(options));
        }
      } catch (error) {
        if (execution === undefined && !(isAccepted && isUntold(error))) {
          throw error; // otherwise the start was accepted, and only reading its operation was refused
        }
        execution ??= await this.#executionOf(job).catch(() => undefined);
        if (execution === undefined) {
          throw new UntoldOutcome("Jobs_Start", error);
        }
      }
      this.#logger.info({ job, execution }, "started a job");
      return execution ?? "";
    });
  }

  /** The execution of a job that may have been started, as a new one is not listed at once. */
  async #executionOf(job: string): Promise<string | undefined> {
    const { clock } = this.#options;
    const untilMs = clock.nowMs() + visibleAfterMs;
    for (;;) {
      const [execution] = (await this.#executions(job)).toSorted(byStart);
      if (execution?.name !== undefined) {
        return execution.name;
      }
      if (clock.nowMs() >= untilMs) {
        return undefined;
      }
      await clock.sleep(visiblePollMs);
    }
  }

  async #executions(job: string): Promise<readonly JobExecution[]> {
    const { azure, resourceGroup } = this.#options;
    try {
      return await azure.call("JobsExecutions_List", async (options) => {
        return await Array.fromAsync(azure.apps.jobsExecutions.list(resourceGroup, job, options));
      });
    } catch (error) {
      if (isMissing(error)) {
        return [];
      }
      throw error;
    }
  }

  async #view(name: TaskName, signal: AbortSignal): Promise<TaskView | undefined> {
    const { azure, resourceGroup, ended, isOnBooks } = this.#options;
    const task = formatTask(name);
    if (isOnBooks(name.job)) {
      this.#served.add(name.job);
    }
    try {
      const [execution, facts] = await Promise.all([
        azure.call(
          "JobExecution",
          (options) => azure.apps.jobExecution(resourceGroup, name.job, name.execution, options),
          signal,
        ),
        this.#factsOf(name.job, signal),
      ]);
      const knowledge = {
        lastStatus: this.#statuses.get(task) ?? "",
        stopReason: this.#stopped.get(task),
        containerTimeMs: this.#options.containerTimeMs,
      };
      const view = viewOf(name, execution, facts, knowledge);
      this.#statuses.set(task, view.status);
      this.#underWay.delete(name.job);
      if (view.stopped) {
        ended(name.job, facts.containerId);
      }
      return view;
    } catch (error) {
      if (isMissing(error)) {
        this.#refuseElsewhere(name.job, error);
        return undefined;
      }
      if (error instanceof AzureError && (error.status === 401 || isRefusedLogin(error))) {
        // As no refusal, after which a silent task is stopped in time: by then the credentials may be taken again.
        throw systemError(error.message, error);
      }
      throw error;
    }
  }

  /** @throws system: a job that is missing runs in another resource group than the configured one */
  #refuseElsewhere(job: string, cause: AzureError): void {
    const { environmentId, environmentOf } = this.#options;
    const former = groupOf(environmentOf(job) ?? environmentId);
    if (former !== groupOf(environmentId)) {
      throw systemError(`${cause.message}: the job ${job} was made in ${former}`, cause);
    }
  }

  async #hasEnded(task: string): Promise<boolean> {
    const view = await this.#view(parseTask(task), new AbortController().signal).catch(() => undefined);
    return view?.stopped === true;
  }

  async #factsOf(job: string, signal?: AbortSignal): Promise<JobFacts> {
    const known = this.#facts.get(job);
    if (known !== undefined) {
      return known;
    }
    const { azure, resourceGroup } = this.#options;
    const found = await azure.call(
      "Jobs_Get",
      (options) => azure.apps.jobs.get(resourceGroup, job, options),
      signal,
    );
    const facts = factsOf(found);
    this.#facts.set(job, facts);
    return facts;
  }

  async #get(job: string): Promise<Job | undefined> {
    const { azure, resourceGroup } = this.#options;
    const asked = azure.call("Jobs_Get", (options) => azure.apps.jobs.get(resourceGroup, job, options));
    return await asked.catch(ignoring(isMissing));
  }
}

/** Whether a job was prepared, and no container has claimed it. */
function isWaiting({ prepared, containerId }: JobFacts): boolean {
  return prepared !== undefined && containerId === "";
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

/** Reads a job's tags, which any user may have changed. */
function factsOf(job: Job): JobFacts {
  const { tags = {}, configuration } = job;
  return {
    prepared: preparationOf(job),
    instance: tags[instanceTag] ?? "",
    containerId: /^[0-9a-f]{64}$/.exec(tags[containerTag] ?? "")?.[0] ?? "",
    generation: BigInt(/^\d+$/.exec(tags[generationTag] ?? "")?.[0] ?? 0),
    replicaTimeoutMs: (configuration?.replicaTimeout ?? Number.POSITIVE_INFINITY) * 1000,
  };
}

/** The name that a job of sockerless has, apart from those that replaced each other. */
function nameOf({ prepared, containerId, generation }: JobFacts): string {
  return prepared === undefined ? jobNameOf(containerId, generation) : preparedJobName(prepared.name);
}

/** @throws conflict: a job does not belong to the start with its name */
function refuseOther(name: string, found: JobFacts, wanted: JobFacts): void {
  const startOf = ({ instance, containerId, generation, prepared }: JobFacts): string =>
    `instance ${instance || "?"}, container ${containerId || prepared?.name || "?"}, start ${generation}`;
  if (startOf(found) !== startOf(wanted)) {
    throw conflict(
      `Azure has a job ${name} already, which by its tags is not for this start (${startOf(found)}): remove it there`,
    );
  }
}

/** `/subscriptions/<ID>/resourcegroups/<name>` of a resource ID, which has no case. */
function groupOf(id: string): string {
  return id.toLowerCase().split("/").slice(0, 5).join("/");
}

/** Compares resource IDs case-insensitively, like Azure. */
function isIn({ environmentId = "" }: Job, environment: string): boolean {
  return environmentId.toLowerCase() === environment.toLowerCase();
}

function byStart(a: JobExecution, b: JobExecution): number {
  return (a.startTime?.getTime() ?? 0) - (b.startTime?.getTime() ?? 0);
}
