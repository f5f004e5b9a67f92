/**
 * Jobs whose executions wait for containers: their variables show that, and their tags name the containers that have
 * claimed them.
 */
import type { Container, Job } from "@azure/arm-appcontainers";

import {
  containerVariable,
  preparedEnvironment,
  preparedVariable,
  variablesOfStart,
} from "../../cloud/agents/agent-environment.ts";
import type { Preparation, PreparedTasks } from "../../cloud/contract/prepared-tasks.ts";
import { differing, type Parts, shapeOf } from "../../cloud/ready-made/request-shapes.ts";
import { instanceTag, preparedGeneration, preparedJobName } from "../tags.ts";
import { type JobRequest, parseRequest } from "./job-requests.ts";

/** Prepared tasks. @throws AzureError */
export function preparedJobs(jobs: Pick<PreparedTasks, "claim">): PreparedTasks {
  return {
    isMadeWith: { networks: false, anonymousVolumes: false },
    shapeOf: (request) => shapeOf(shared(request)),
    differences: (request, other) => differing(parts, shared(request), shared(other)),
    sizeOf(request) {
      const { cpu = 0, memory = "" } = mainOf(parseRequest(request).job)?.resources ?? {};
      return { vcpus: cpu, gib: Number.parseFloat(memory) || 0 };
    },
    prepare(request, preparation) {
      const { name, waitMs } = preparation;
      const job = withEnvironment(shared(request), (own) => preparedEnvironment(own, preparation));
      const { configuration, tags = {} } = parseRequest(request).job;
      const prepared: JobRequest = {
        name: preparedJobName(name),
        containerId: name,
        generation: String(preparedGeneration),
        job: {
          ...job,
          tags: { [instanceTag]: tags[instanceTag] ?? "" },
          // The execution's wait is added, so that a container still gets its full time.
          ...(configuration !== undefined && {
            configuration: {
              ...configuration,
              replicaTimeout: configuration.replicaTimeout + Math.ceil(waitMs / 1000),
            },
          }),
        },
      };
      return JSON.stringify(prepared);
    },
    claim: (task, by, signal) => jobs.claim(task, by, signal),
  };
}

/** How a job was prepared; undefined if it was not. */
export function preparationOf(job: Job): Pick<Preparation, "name" | "shape"> | undefined {
  const environment = new Map((mainOf(job)?.env ?? []).map(({ name, value = "" }) => [name, value]));
  const shape = environment.get(preparedVariable);
  return shape === undefined ? undefined : { name: environment.get(containerVariable) ?? "", shape };
}

/** Parts of a job, by their names in docs/backends/aca.md. */
const parts: Parts<Job> = {
  "the image": (job) => mainOf(job)?.image,
  "CPU and memory": (job) => mainOf(job)?.resources,
  "volumes, tmpfs or mounts of images": (job) => [
    ...[job.template?.volumes, mainOf(job)?.volumeMounts],
    job.template?.initContainers?.map(({ args }) => args),
  ],
  "--log-opt": (job) => mainOf(job)?.env,
  "identity, registry, environment or aca.replica_timeout": (job) => [
    ...[job.location, job.environmentId, job.identity, job.configuration],
    job.template?.initContainers?.map(({ image }) => image),
  ],
};

function mainOf({ template }: Job): Container | undefined {
  return template?.containers?.[0];
}

/** A job without the parts that belong to one start. */
function shared(request: string): Job {
  const { tags: _tags, ...job } = parseRequest(request).job;
  return withEnvironment(job, (own) => own.filter(({ name = "" }) => !variablesOfStart.has(name)));
}

type Environment = NonNullable<Container["env"]>;

function withEnvironment(job: Job, change: (environment: Environment) => Environment): Job {
  const containers = job.template?.containers?.map((container) => ({
    ...container,
    env: change(container.env ?? []),
  }));
  return { ...job, template: { ...job.template, ...(containers !== undefined && { containers }) } };
}
