/** Tasks of ECS that wait for containers: what tells them apart is in their overrides, and whose they are in their tags. */
import { createHash } from "node:crypto";

import { type ECSClient, type RunTaskCommandInput, TagResourceCommand } from "@aws-sdk/client-ecs";

import {
  containerVariable,
  generationVariable,
  preparedEnvironment,
  variablesOfStart,
} from "../../cloud/agents/agent-environment.ts";
import type { PreparedTasks } from "../../cloud/contract/prepared-tasks.ts";
import type { AwsService } from "../aws/clients.ts";

/** Prepared tasks. @throws AwsError */
export function ecsPreparedTasks({ ecs }: { readonly ecs: AwsService<ECSClient> }): PreparedTasks {
  return {
    shapeOf: (request) =>
      createHash("sha256")
        .update(JSON.stringify(shared(request)))
        .digest("hex"),
    sizeOf(request) {
      const { cpu, memory } = (JSON.parse(request) as RunTaskCommandInput).overrides ?? {};
      return { vcpus: Number(cpu ?? 0) / 1024, gib: Number(memory ?? 0) / 1024 };
    },
    prepare(request, preparation) {
      const asked = withEnvironment(shared(request), (own) => [...own, ...preparedEnvironment(preparation)]);
      const clientToken = createHash("sha256").update(preparation.name).digest("hex");
      return JSON.stringify({ ...asked, clientToken });
    },
    async claim(resourceArn, containerId, generation, abortSignal) {
      const tags = [
        { key: containerVariable, value: containerId },
        { key: generationVariable, value: String(generation) },
      ];
      await ecs.send(new TagResourceCommand({ resourceArn, tags }), { abortSignal });
    },
  };
}

/** A request without what is of one start alone. */
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
