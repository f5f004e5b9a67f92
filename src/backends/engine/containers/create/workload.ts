/** Builds the workload for a driver from a container's record. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../../../driver/workload-spec.ts";
import type { EngineContext } from "../../context.ts";
import { environmentOf } from "../decisions/config/environment.ts";
import { joinedContainers } from "../decisions/joined-containers.ts";
import { linkedHosts, takenLinks } from "../decisions/links/links.ts";
import { imageRecordOf } from "../decisions/mounts/image-mounts.ts";
import { resolveMounts } from "../decisions/mounts/resolve-mounts.ts";
import { peerHosts } from "../../networks/decisions/names.ts";
import { networkPlanOf } from "../../networks/decisions/endpoints.ts";
import { joinedNetworkOf } from "../../networks/decisions/shared-network.ts";
import { configOf } from "../../../model/records.ts";

/**
 * The workload of a container.
 *
 * @param network whether to resolve networks: none are joined before a start
 * @throws not-found: a volume or a network is gone; conflict: the container whose network is shared does not run;
 *   errors of {@link joinedContainers} and {@link takenLinks}
 */
export function workloadOf(
  context: EngineContext,
  record: ContainerRecord,
  network: "joined" | "not-yet",
): WorkloadSpec {
  const isStart = network === "joined";
  const links = isStart ? takenLinks(context, record) : { env: [], hosts: [] };
  const shared = isStart ? joinedNetworkOf(context, record) : undefined;
  return {
    record,
    image: imageRecordOf(context.state.images, record, record.imageId, record.layerDiffIds),
    args: [record.path, ...record.args],
    env: environmentOf(record, configOf(record).tty, [], links.env),
    mounts: resolveMounts(record, context.state),
    network: isStart ? networkPlanOf(context.state, record) : { kind: "none" },
    ...(isStart
      ? {
          joined: {
            ...joinedContainers(context.state, record),
            ...(shared === undefined ? {} : { network: shared }),
          },
        }
      : {}),
    linkedHosts: [
      ...(shared === undefined ? links.hosts : linkedHosts(context, shared.owner)),
      ...(isStart ? peerHosts(context, shared?.owner ?? record) : []),
    ],
  };
}
