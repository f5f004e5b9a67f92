/** Requests to Azure for a container's start: the job to create and start. */
import type { Job } from "@azure/arm-appcontainers";

import { withoutGeneration } from "../../cloud/agents/agent-environment.ts";
import type { StartStep, TaskRequests } from "../../cloud/contract/cloud-tasks.ts";
import { copiedImages } from "../../cloud/ready-made/copied-images.ts";
import { withMissingAgent } from "../../cloud/images/agent-image.ts";
import type { LaunchProgress } from "../../driver/launches.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { jobNameOf, nextJobName } from "../tags.ts";
import { type JobSettings, jobOf } from "./job.ts";
import type { JobImages, JobVolumes } from "./job-parts.ts";
import { type DefaultSize, jobSizeOf } from "./sizes.ts";

/** Settings and dependencies of {@link jobRequests}. */
export interface JobRequestsOptions {
  readonly images: JobImages;
  readonly volumes: JobVolumes;
  readonly job: JobSettings;
  readonly defaultSize: DefaultSize;
}

/** A request as recorded in JSON, without secrets but the token of its agent, which proves nothing. */
export interface JobRequest {
  /** The job's name. */
  readonly name: string;
  readonly containerId: string;
  /** Decimal. */
  readonly generation: string;
  readonly job: Job;
}

/** Requests as JSON of {@link JobRequest}. */
export function jobRequests(options: JobRequestsOptions): TaskRequests {
  const { images, volumes, defaultSize } = options;

  const make = async (
    spec: WorkloadSpec,
    step: StartStep,
    phase: LaunchProgress["phase"] = () => {},
  ): Promise<JobRequest> => {
    const { record } = spec;
    const { copies, mounts } = copiedImages(spec.mounts);
    const told = asOne(phase);
    const [image, copied, mounted] = await Promise.all([
      images(spec.image, record, step, told),
      Promise.all(
        copies.map(async (copy) => ({ ...copy, image: await images(copy.image, record, step, told) })),
      ),
      volumes.partsOf(spec, step),
    ]);
    const size = jobSizeOf(record.hostConfig, defaultSize);
    return {
      name: jobNameOf(record.id, record.generation),
      containerId: record.id,
      generation: String(record.generation),
      job: jobOf(
        record,
        spec.mounts,
        { image, imageMounts: { copies: copied, mounts }, volumes: mounted, size },
        options.job,
      ),
    };
  };

  return {
    make: async (spec, step, phase) => JSON.stringify(await make(spec, step, phase)),
    async renew(request, spec, step, phase) {
      const { name } = parseRequest(request);
      return JSON.stringify({ ...(await make(spec, step, phase)), name });
    },
    /**
     * Names another job, as the same one would return its existing execution. A job that was never started is reused.
     */
    another(request, last) {
      if (last === "") {
        return request;
      }
      const before = parseRequest(request);
      return JSON.stringify({ ...before, name: nextJobName(before.name, last) });
    },
    otherCapacity: () => undefined,
    isAlike: (one, other) => withoutStart(one) === withoutStart(other),
    sizeOf: (request) => String(parseRequest(request).job.template?.containers?.[0]?.resources?.cpu ?? ""),
    refuseUnfit({ hostConfig }, mounts) {
      jobSizeOf(hostConfig, defaultSize);
      volumes.refuseUnfit(mounts);
      return Promise.resolve();
    },
    fitsQuota: () => Promise.resolve(undefined),
    unmountedVolumes: (spec) => volumes.unmounted(spec),
    explainFailure: (error) => withMissingAgent(error, options.job.agentImage, "aca"),
  };
}

/** Reports a phase of several images as one, from the first beginning to the last end. */
function asOne(phase: LaunchProgress["phase"]): LaunchProgress["phase"] {
  let first: Date | undefined;
  let underWay = 0;
  return (told) => {
    first ??= told.from;
    underWay += told.until === undefined ? 1 : -1;
    if (told.until === undefined || underWay === 0) {
      phase({ ...told, from: first });
    }
  };
}

/** Parses a request. */
export function parseRequest(request: string): JobRequest {
  return JSON.parse(request) as JobRequest;
}

/** A job without the parts that differ between starts. */
function withoutStart(request: string): string {
  const { job } = parseRequest(request);
  const { tags: _tags, ...rest } = job;
  return withoutGeneration(rest);
}
