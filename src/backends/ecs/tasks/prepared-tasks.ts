/** Prepared ECS tasks: their overrides distinguish them, and their tags name the containers that have claimed them. */
import { createHash } from "node:crypto";

import { type ECSClient, type RunTaskCommandInput, TagResourceCommand } from "@aws-sdk/client-ecs";

import {
  containerVariable,
  generationVariable,
  preparedEnvironment,
  variablesOfStart,
} from "../../cloud/agents/agent-environment.ts";
import type { PreparedTasks } from "../../cloud/contract/prepared-tasks.ts";
import { differing, type Parts, shapeOf } from "../../cloud/ready-made/request-shapes.ts";
import type { AwsService } from "../aws/clients.ts";
import type { Definition } from "../definitions/definition.ts";
import type { Definitions } from "../definitions/definitions.ts";

/** Dependencies of {@link ecsPreparedTasks}. */
export interface EcsPreparedOptions {
  readonly ecs: AwsService<ECSClient>;
  readonly definitions: Pick<Definitions, "contentOf">;
  /** Whether networks are security groups. */
  readonly hasGroups: boolean;
}

/** Prepared tasks on ECS. @throws AwsError */
export function ecsPreparedTasks({ ecs, definitions, hasGroups }: EcsPreparedOptions): PreparedTasks {
  const contentOf = ({ taskDefinition = "" }: RunTaskCommandInput) => definitions.contentOf(taskDefinition);
  return {
    isMadeWith: { networks: hasGroups, anonymousVolumes: false },
    shapeOf: (request) => shapeOf(shared(request)),
    differences(request, other) {
      const [one, two] = [shared(request), shared(other)];
      const found = differing(partsOfRequest, one, two);
      const [here, there] = [contentOf(one), contentOf(two)];
      if (one.taskDefinition === two.taskDefinition) {
        return found;
      }
      return here === undefined || there === undefined
        ? [...found, "its task definition"]
        : [...differing(partsOfDefinition, here, there), ...found];
    },
    sizeOf(request) {
      const { cpu, memory } = (JSON.parse(request) as RunTaskCommandInput).overrides ?? {};
      return { vcpus: Number(cpu ?? 0) / 1024, gib: Number(memory ?? 0) / 1024 };
    },
    prepare(request, preparation) {
      const asked = withEnvironment(shared(request), (own) => preparedEnvironment(own, preparation));
      const clientToken = createHash("sha256").update(preparation.name).digest("hex");
      return JSON.stringify({ ...asked, clientToken });
    },
    async claim(resourceArn, { containerId, launchGeneration }, abortSignal) {
      const tags = [
        { key: containerVariable, value: containerId },
        { key: generationVariable, value: String(launchGeneration) },
      ];
      await ecs.send(new TagResourceCommand({ resourceArn, tags }), { abortSignal });
    },
  };
}

/** Parts of a request and of a definition, by their names in docs/backends/ecs.md. */
const partsOfRequest: Parts<RunTaskCommandInput> = {
  "CPU and memory": ({ overrides }) => [overrides?.cpu, overrides?.memory],
  "the disk": ({ overrides }) => overrides?.ephemeralStorage,
  networks: ({ networkConfiguration }) => networkConfiguration,
  "--log-opt": ({ overrides }) => overrides?.containerOverrides,
  "roles, capacity or platform version": (request) => [
    ...[request.capacityProviderStrategy, request.launchType, request.platformVersion],
    request.overrides?.taskRoleArn,
  ],
};

const mainOf = ({ containerDefinitions }: Definition) => containerDefinitions?.at(-1);
const partsOfDefinition: Parts<Definition> = {
  "the image": (definition) => mainOf(definition)?.image,
  volumes: (definition) => [definition.volumes, mainOf(definition)?.mountPoints],
  "tmpfs or --shm-size": (definition) => mainOf(definition)?.linuxParameters?.tmpfs,
  "--ulimit": (definition) => mainOf(definition)?.ulimits,
  "--sysctl": (definition) => mainOf(definition)?.systemControls,
  "--read-only": (definition) => mainOf(definition)?.readonlyRootFilesystem,
  SYS_PTRACE: (definition) => mainOf(definition)?.linuxParameters?.capabilities,
  "--log-opt": (definition) => mainOf(definition)?.logConfiguration,
};

/** A request without the parts that belong to one start. */
function shared(request: string): RunTaskCommandInput {
  const { clientToken: _token, ...task } = JSON.parse(request) as RunTaskCommandInput;
  return withEnvironment(task, (own) => own.filter(({ name = "" }) => !variablesOfStart.has(name)));
}

type Environment = readonly { readonly name?: string | undefined; readonly value?: string | undefined }[];

function withEnvironment(
  request: RunTaskCommandInput,
  change: (environment: Environment) => Environment,
): RunTaskCommandInput {
  const containerOverrides = request.overrides?.containerOverrides?.map((container) => ({
    ...container,
    environment: [...change(container.environment ?? [])],
  }));
  return { ...request, overrides: { ...request.overrides, containerOverrides } };
}
