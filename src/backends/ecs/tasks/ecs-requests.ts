/** Requests to AWS for a container's start: `RunTask`, with a definition registered before. */
import { createHash } from "node:crypto";

import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { withoutGeneration } from "../../cloud/agents/agent-environment.ts";
import type { StartStep, TaskRequests } from "../../cloud/contract/cloud-tasks.ts";
import { withMissingAgent } from "../../cloud/images/agent-image.ts";
import { invalid } from "../../../common/errors.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { creatorOf } from "../../model/inner-socket-labels.ts";
import { configOf } from "../../model/records.ts";
import { isSpot } from "../aws/rates.ts";
import { refuseDirectories, withMissingDirectory } from "../access-points/parts.ts";
import { type DefinitionSettings, definitionOf, unmountedVolumes } from "../definitions/definition.ts";
import { type Definitions, familyOf } from "../definitions/definitions.ts";
import { refuseTooManyImages } from "../definitions/image-mounts.ts";
import { refuseSizes } from "../definitions/refuse-sizes.ts";
import { taskSizeOf } from "../definitions/sizes.ts";
import type { TaskImage } from "../ecr/task-image.ts";
import type { EcsNetworks } from "../networks.ts";
import type { VcpuQuota } from "../vcpu-quota.ts";
import { networkOfTask } from "../security-groups/groups-of-task.ts";
import { type Capacity, capacityOf, type RunSettings, runRequest } from "./run-request.ts";

/** Settings and dependencies of {@link ecsRequests}. */
export interface EcsRequestsOptions {
  readonly definitions: Pick<Definitions, "ensure" | "forget">;
  readonly networks: Pick<EcsNetworks, "groupsOf">;
  /** Spot has its own quota. */
  readonly quotas: Readonly<Record<"onDemand" | "spot", Pick<VcpuQuota, "fits" | "vcpus" | "code">>>;
  /** The image for tasks to pull. @throws not-found, conflict */
  readonly taskImage: (image: ImageRecord) => TaskImage;
  readonly definition: DefinitionSettings;
  readonly run: RunSettings;
}

/** Requests, as JSON of {@link RunTaskCommandInput}. */
export function ecsRequests(options: EcsRequestsOptions): TaskRequests {
  const { definitions, networks, quotas, taskImage, run } = options;

  const make = async (spec: WorkloadSpec, step: StartStep): Promise<RunTaskCommandInput> => {
    const definition = definitionOf(spec, taskImage, options.definition);
    const creator = creatorOf(configOf(spec.record).labels);
    const mountsVolumes = (definition.volumes ?? []).some((volume) => volume.efsVolumeConfiguration);
    // First, as the start may be refused here: its definition would be registered for nothing.
    const groups = await step("EC2 has not told its security groups", () =>
      networks.groupsOf(networkOfTask(spec), mountsVolumes),
    );
    const arn = await step("ECS has not registered its task definition", (signal) =>
      definitions.ensure(definition, signal, creator),
    );
    return runRequest(spec.record, arn, groups, run);
  };

  const quotaOf = ({ capacityProviderStrategy }: Capacity) =>
    quotas[capacityProviderStrategy?.some(isSpot) === true ? "spot" : "onDemand"];

  return {
    make: async (spec, step) => JSON.stringify(await make(spec, step)),

    async renew(request, spec, step) {
      const { taskDefinition = "", clientToken } = parse(request);
      await definitions.forget(familyOf(taskDefinition));
      // The token has not been used: no task was created.
      return JSON.stringify({ ...(await make(spec, step)), clientToken });
    },

    /** Needs another token: with the same one, AWS would return the ended task. */
    another(request, last) {
      const before = parse(request);
      const clientToken = createHash("sha256")
        .update(`${before.clientToken ?? ""}:${last}`)
        .digest("hex");
      return JSON.stringify({ ...before, clientToken });
    },

    otherCapacity(request) {
      const { capacityProviderStrategy, ...rest } = parse(request);
      return run.spotFallback && capacityProviderStrategy?.some(isSpot) === true
        ? JSON.stringify({ ...rest, launchType: "FARGATE" } satisfies RunTaskCommandInput)
        : undefined;
    },

    isAlike: (one, other) => withoutStart(parse(one)) === withoutStart(parse(other)),
    sizeOf(request) {
      const { overrides, capacityProviderStrategy: [strategy] = [] } = parse(request);
      return `${overrides?.cpu ?? ""} ${strategy?.capacityProvider ?? ""}`; // Spot has its own quota.
    },

    async refuseUnfit({ hostConfig }, mounts) {
      refuseTooManyImages(mounts);
      refuseDirectories(mounts);
      refuseSizes(hostConfig, mounts);
      const { cpu } = taskSizeOf(hostConfig?.resources);
      const quota = quotaOf(capacityOf(run.capacityProvider));
      if ((await quota.fits(cpu)) === false) {
        throw invalid(
          `the container needs ${cpu / 1024} vCPU, and the account may run ${quota.vcpus} at once: ask AWS for more (Service Quotas, Fargate, ${quota.code})`,
        );
      }
    },
    async fitsQuota(request) {
      const asked = parse(request);
      return await quotaOf(asked).fits(Number(asked.overrides?.cpu));
    },
    unmountedVolumes,
    explainFailure(error, mounts) {
      const { agent } = options.definition;
      const told = agent.kind === "image" ? withMissingAgent(error, agent.image, "ecs") : error;
      return withMissingDirectory(told, mounts);
    },
  };
}

/** The requested vCPUs, and their kind. */
export function vcpusOf(request: string): { readonly vcpus: number; readonly isSpot: boolean } {
  const { overrides, capacityProviderStrategy } = parse(request);
  return {
    vcpus: Number(overrides?.cpu ?? 0) / 1024,
    isSpot: capacityProviderStrategy?.some(isSpot) === true,
  };
}

function parse(request: string): RunTaskCommandInput {
  return JSON.parse(request) as RunTaskCommandInput;
}

/** A request without the parts for one start, and without its capacity provider. */
function withoutStart(request: RunTaskCommandInput): string {
  const { clientToken: _token, capacityProviderStrategy: _strategy, launchType: _type, ...task } = request;
  return withoutGeneration(task);
}
