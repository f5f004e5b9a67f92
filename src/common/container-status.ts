import { ContainerStatus } from "../gen/sockerless/backend/v1/container_pb.ts";

/** A container's status as Docker names it: `running`. */
export function statusName(status: ContainerStatus): string {
  return status === ContainerStatus.UNSPECIFIED ? "created" : ContainerStatus[status].toLowerCase();
}

/** Statuses by their names in the API. */
export const statusOfName: ReadonlyMap<string, ContainerStatus> = new Map(
  Object.values(ContainerStatus)
    .filter((status) => typeof status === "number" && status !== ContainerStatus.UNSPECIFIED)
    .map((status) => [statusName(status as ContainerStatus), status as ContainerStatus] as const),
);
