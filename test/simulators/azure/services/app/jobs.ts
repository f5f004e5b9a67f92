/** Microsoft.App/jobs: jobs and the calls on their executions. */
import type { Context } from "../../context.ts";
import { isSame, resourceId } from "../../context.ts";
import { loadSchemas } from "../../models/schema.ts";
import { ArmFault, notSimulated, resourceNotFound } from "../../wire/fault.ts";
import type { LongOperations } from "../../wire/long-running.ts";
import { pageOf, pageParameter } from "../../wire/pages.ts";
import { type ArmAnswer, type ArmCall, type ArmOperation, inGroup } from "../../wire/provider.ts";
import type { ContainerBody, JobBody, TemplateBody } from "./bodies.ts";
import type { Environment, Environments } from "./environments.ts";
import type { Execution, Executions } from "./executions.ts";
import { checkJob, type JobSurroundings, sizeOf } from "./job-rules.ts";
import type { Puller } from "./pulling.ts";

/** A job that exists. */
interface Job {
  readonly name: string;
  readonly id: string;
  body: JobBody;
  provisioningState: "InProgress" | "Succeeded" | "Deleting";
  readonly visibleAt: number;
  readonly createdBy: string;
  readonly createdAt: Date;
}

const jobType = "Microsoft.App/jobs";
const schemas = loadSchemas("app");

export class Jobs {
  readonly #context: Context;
  readonly #environments: Environments;
  readonly #executions: Executions;
  readonly #operations: LongOperations;
  readonly #puller: Puller | undefined;
  readonly #all = new Map<string, Job>();

  constructor(
    context: Context,
    environments: Environments,
    executions: Executions,
    operations: LongOperations,
    puller: Puller | undefined,
  ) {
    this.#context = context;
    this.#environments = environments;
    this.#executions = executions;
    this.#operations = operations;
    this.#puller = puller;
  }

  /** Names of all jobs, seen or not. */
  names(): readonly string[] {
    return [...this.#all.keys()];
  }

  /** A job as it was written, with its secrets. */
  body(name: string): JobBody | undefined {
    return this.#all.get(name.toLowerCase())?.body;
  }

  /** Names of jobs whose template names a storage of an environment. */
  jobsWith({ id }: Environment, storageName: string): string[] {
    return [...this.#all.values()]
      .filter(({ body: { properties } }) => isSame(properties?.environmentId ?? "", id))
      .filter(({ body: { properties } }) =>
        properties?.template?.volumes?.some((volume) => isSame(volume.storageName ?? "", storageName)),
      )
      .map(({ name }) => name);
  }

  /** Cores of an environment's executions that have not ended. */
  coresIn({ id }: Environment): number {
    const inside = (name: string): boolean =>
      isSame(this.#all.get(name.toLowerCase())?.body.properties?.environmentId ?? "", id);
    return this.#executions
      .all()
      .filter(({ run, jobName }) => !run.isOver && inside(jobName))
      .flatMap(({ template }) => template.containers ?? [])
      .reduce((sum, container) => sum + sizeOf(container).cpu, 0);
  }

  calls(): ArmOperation[] {
    const jobs = inGroup("Microsoft.App", "/jobs");
    const job = `${jobs}/{jobName}`;
    const execution = `${job}/executions/{jobExecutionName}`;
    return [
      {
        name: "Jobs_ListByResourceGroup",
        method: "GET",
        path: jobs,
        action: `${jobType}/read`,
        query: [pageParameter],
        run: (call) =>
          this.#page(
            call,
            this.#seen().map((each) => this.#show(each)),
          ),
      },
      {
        name: "Jobs_Get",
        method: "GET",
        path: job,
        action: `${jobType}/read`,
        run: (call) => ({ status: 200, body: this.#show(this.#find(call)) }),
      },
      {
        name: "Jobs_CreateOrUpdate",
        method: "PUT",
        path: job,
        action: `${jobType}/write`,
        body: { schema: schemas("Job"), required: true },
        run: (call) => this.#write(call, call.body as JobBody),
      },
      {
        name: "Jobs_Update",
        method: "PATCH",
        path: job,
        action: `${jobType}/write`,
        body: { schema: schemas("JobPatchProperties"), required: true },
        run: (call) => this.#update(call, call.body as Partial<JobBody>),
      },
      {
        name: "Jobs_Delete",
        method: "DELETE",
        path: job,
        action: `${jobType}/delete`,
        run: (call) => this.#delete(call),
      },
      {
        name: "Jobs_Start",
        method: "POST",
        path: `${job}/start`,
        action: `${jobType}/start/action`,
        body: { schema: schemas("JobExecutionTemplate"), required: false },
        run: (call) => this.#start(call),
      },
      {
        name: "Jobs_StopExecution",
        method: "POST",
        path: `${execution}/stop`,
        action: `${jobType}/stop/execution/action`,
        run: (call) => this.#stop(call, this.#findExecution(call)),
      },
      {
        name: "JobsExecutions_List",
        method: "GET",
        path: `${job}/executions`,
        action: `${jobType}/executions/read`,
        query: ["$filter", pageParameter],
        run: (call) => {
          if (call.query.has("$filter")) {
            throw notSimulated("$filter");
          }
          const value = this.#executions.of(this.#find(call).name).map((each) => this.#showExecution(each));
          return this.#page(call, value);
        },
      },
      {
        name: "JobExecution",
        method: "GET",
        path: execution,
        action: `${jobType}/execution/read`,
        run: (call) => ({ status: 200, body: this.#showExecution(this.#findExecution(call)) }),
      },
    ];
  }

  #page(call: ArmCall, values: readonly object[]): ArmAnswer {
    return pageOf(call, values, this.#context.switches.pageSize);
  }

  async #write(call: ArmCall, body: JobBody): Promise<ArmAnswer> {
    const { clock, switches, delays, location } = this.#context;
    const { jobName = "" } = call.path;
    const existing = this.#all.get(jobName.toLowerCase());
    refuseWhileBusy(existing);
    this.#checkLinks(call, body);
    checkLocation(existing, body, location, call.path["resourceGroupName"] ?? "");
    checkJob(body, this.#surroundings(jobName, body));
    if (switches.imagesAreChecked) {
      await this.#puller?.check(body);
    }
    const now = clock.nowMs();
    const job: Job = existing ?? {
      name: jobName,
      id: resourceId(this.#context, `${jobType}/${jobName}`),
      body,
      provisioningState: "InProgress",
      visibleAt: now + switches.eventualConsistencyMs,
      createdBy: call.principal.clientId,
      createdAt: clock.now(),
    };
    if (existing !== undefined) {
      existing.body = body;
    }
    job.provisioningState = "InProgress";
    this.#all.set(jobName.toLowerCase(), job);
    const status = existing === undefined ? 201 : switches.updatesAreAnswered;
    return await this.#operations.answer(call, {
      delayMs: delays.writeJob,
      by: "azure-async-operation",
      accepted: { status, body: this.#show(job) },
      finish: () => {
        job.provisioningState = "Succeeded";
        return { status, body: this.#show(job) };
      },
    });
  }

  /** Changes tags alone: JSON merge patch (RFC 7396). Executions go on. */
  async #update(call: ArmCall, patch: Partial<JobBody>): Promise<ArmAnswer> {
    const job = this.#find(call);
    refuseWhileBusy(job);
    const { tags = {}, ...others } = patch;
    if (Object.keys(others).length > 0) {
      throw notSimulated("an update of more than a job's tags");
    }
    const body: JobBody = { ...job.body, tags: { ...job.body.tags, ...tags } };
    checkJob(body, this.#surroundings(job.name, body));
    job.body = body;
    job.provisioningState = "InProgress";
    return await this.#operations.answer(call, {
      delayMs: this.#context.delays.writeJob,
      by: "location",
      accepted: { status: 202 },
      finish: () => {
        job.provisioningState = "Succeeded";
        return { status: 200, body: this.#show(job) };
      },
    });
  }

  /** Refuses a caller that may not give a job the identities that it is to have. */
  #checkLinks({ principal }: ArmCall, { identity }: JobBody): void {
    const action = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action";
    for (const id of Object.keys(identity?.userAssignedIdentities ?? {})) {
      if (!this.#context.entra.allows(principal, action, id)) {
        const message = `The client '${principal.clientId}' with object id '${principal.objectId}' has permission to perform action '${jobType}/write'; however, it does not have permission to perform action '${action}' on the linked scope(s) '${id}' or the linked scope(s) are invalid.`;
        throw new ArmFault(403, "LinkedAuthorizationFailed", message);
      }
    }
  }

  async #delete(call: ArmCall): Promise<ArmAnswer> {
    const job = this.#all.get((call.path["jobName"] ?? "").toLowerCase());
    if (job === undefined) {
      return { status: 204 };
    }
    job.provisioningState = "Deleting";
    return await this.#operations.answer(call, {
      delayMs: this.#context.delays.deleteJob,
      by: "location",
      accepted: { status: 202 },
      finish: () => {
        this.#executions.remove(job.name);
        this.#all.delete(job.name.toLowerCase());
        return { status: 200 };
      },
    });
  }

  async #start(call: ArmCall): Promise<ArmAnswer> {
    const { delays, switches } = this.#context;
    const job = this.#find(call);
    refuseWhileBusy(job);
    const { containers = [] } = (call.body ?? {}) as TemplateBody;
    if (containers.length > 0) {
      throw notSimulated("a start with a template of its own");
    }
    const template = job.body.properties?.template ?? {};
    const execution = this.#executions.start(job.name, job.body, template);
    const body = { name: execution.name, id: `${job.id}/executions/${execution.name}` };
    return await this.#operations.answer(call, {
      delayMs: delays.start,
      by: "location",
      accepted: switches.startsAreNamed ? { status: 202, body } : { status: 202 },
      finish: () => ({ status: 200, body }),
    });
  }

  async #stop(call: ArmCall, { run }: Execution): Promise<ArmAnswer> {
    if (!run.isOver) {
      run.stop();
    }
    return await this.#operations.answer(call, {
      delayMs: this.#context.delays.stop,
      by: "location",
      accepted: { status: 202 },
      finish: () => ({ status: 200 }),
    });
  }

  #surroundings(name: string, { properties }: JobBody): JobSurroundings {
    const environment = this.#environments.byId(properties?.environmentId ?? "");
    return {
      name,
      hasEnvironment: (id) => this.#environments.byId(id) !== undefined,
      storageKind: (storageName) => {
        const storage =
          environment === undefined ? undefined : this.#environments.storage(environment, storageName);
        const kind = storage?.properties.nfsAzureFile === undefined ? "AzureFile" : "NfsAzureFile";
        return storage === undefined ? undefined : kind;
      },
    };
  }

  #seen(): Job[] {
    const now = this.#context.clock.nowMs();
    return [...this.#all.values()].filter(({ visibleAt }) => visibleAt <= now);
  }

  #find({ path }: ArmCall): Job {
    const { jobName = "", resourceGroupName = "" } = path;
    const job = this.#seen().find(({ name }) => isSame(name, jobName));
    if (job === undefined) {
      throw resourceNotFound(jobType, jobName, resourceGroupName);
    }
    return job;
  }

  #findExecution(call: ArmCall): Execution {
    const { jobExecutionName = "" } = call.path;
    const found = this.#executions
      .of(this.#find(call).name)
      .find(({ name }) => isSame(name, jobExecutionName));
    if (found === undefined) {
      throw new ArmFault(404, "JobExecutionNotFound", `Job execution '${jobExecutionName}' was not found.`);
    }
    return found;
  }

  /** Values of secrets are not told. */
  #show({ name, id, body, provisioningState, createdBy, createdAt }: Job): object {
    const { configuration = {}, ...properties } = body.properties ?? {};
    const { secrets } = configuration;
    return {
      id,
      name,
      type: jobType,
      location: body.location,
      ...(body.tags !== undefined && { tags: body.tags }),
      ...(body.identity !== undefined && { identity: this.#showIdentity(body.identity) }),
      systemData: { createdBy, createdByType: "Application", createdAt: createdAt.toISOString() },
      properties: {
        provisioningState,
        ...properties,
        workloadProfileName: properties.workloadProfileName ?? "Consumption",
        configuration: {
          ...configuration,
          ...(secrets !== undefined && { secrets: secrets.map(({ value: _, ...secret }) => secret) }),
        },
        outboundIpAddresses: ["203.0.113.20"],
        eventStreamEndpoint: `https://${this.#context.location}.azurecontainerapps.dev${id}/eventstream`,
      },
    };
  }

  #showIdentity({ type, userAssignedIdentities }: NonNullable<JobBody["identity"]>): object {
    const { entra, tenantId } = this.#context;
    const shown = Object.keys(userAssignedIdentities ?? {}).map((id) => {
      const principal = entra.identity(id);
      return [id, { principalId: principal?.objectId, clientId: principal?.clientId }];
    });
    return { type, tenantId, userAssignedIdentities: Object.fromEntries(shown) };
  }

  #showExecution({ name, jobName, template, run }: Execution): object {
    const shown = ({ volumeMounts: _, probes: __, ...container }: ContainerBody): object => container;
    return {
      id: `${resourceId(this.#context, `${jobType}/${jobName}`)}/executions/${name}`,
      name,
      type: `${jobType}/executions`,
      properties: {
        status: run.told ?? run.status,
        startTime: run.startedAt.toISOString(),
        ...(run.endedAt !== undefined && { endTime: run.endedAt.toISOString() }),
        template: {
          containers: (template.containers ?? []).map(shown),
          initContainers: (template.initContainers ?? []).map(shown),
        },
      },
    };
  }
}

function refuseWhileBusy(job: Job | undefined): void {
  if (job !== undefined && job.provisioningState !== "Succeeded") {
    const message = `Cannot modify a container app job ${job.name} because another operation is in progress.`;
    throw new ArmFault(409, "ContainerAppOperationInProgress", message);
  }
}

function checkLocation(
  existing: Job | undefined,
  { location = "" }: JobBody,
  ours: string,
  resourceGroup: string,
): void {
  const plain = (text: string): string => text.toLowerCase().replaceAll(" ", "");
  const before = existing?.body.location ?? location;
  if (existing !== undefined && plain(before) !== plain(location)) {
    const message = `The resource '${existing.name}' already exists in location '${before}' in resource group '${resourceGroup}'. A resource with the same name cannot be created in location '${location}'. Please select a new resource name.`;
    throw new ArmFault(409, "InvalidResourceLocation", message);
  }
  if (plain(location) !== plain(ours)) {
    const message = `The provided location '${location}' is not available for resource type 'Microsoft.App/jobs'.`;
    throw new ArmFault(400, "LocationNotAvailableForResourceType", message);
  }
}
