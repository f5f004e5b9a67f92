/** A container's start for unit tests. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import type {
  ContainerConfigSchema,
  HostConfigSchema,
} from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema, ImageRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";

/** Fields in which the container differs from the default one. */
export interface SaidOfContainer {
  readonly id?: string;
  readonly generation?: bigint;
  readonly config?: MessageInitShape<typeof ContainerConfigSchema>;
  readonly hostConfig?: MessageInitShape<typeof HostConfigSchema>;
  readonly endpoints?: MessageInitShape<typeof ContainerRecordSchema>["endpoints"];
}

/** The start of a container that runs `true`. */
export function workloadSpec(said: SaidOfContainer = {}, fields: Partial<WorkloadSpec> = {}): WorkloadSpec {
  return {
    record: create(ContainerRecordSchema, {
      id: said.id ?? "c".repeat(64),
      name: "web",
      generation: said.generation ?? 1n,
      config: said.config ?? {},
      hostConfig: said.hostConfig ?? {},
      endpoints: said.endpoints ?? {},
    }),
    image: create(ImageRecordSchema, { id: `sha256:${"0".repeat(64)}` }),
    args: ["true"],
    env: ["PATH=/bin"],
    mounts: [],
    network: { kind: "networks", networks: [] },
    ...fields,
  };
}
