/** Tags of a security group that describe its network: writing and reading. */
import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import type { SecurityGroup } from "@aws-sdk/client-ec2";

import { type Network, NetworkSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { type NetworkRecord, NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Logger } from "../../../common/logger.ts";
import { detailsOfTags, detailsToTags, instanceTag, networkTag, tagValue, type WrittenTag } from "../tags.ts";

/** The tags of a network's group. Too long labels are omitted, with a warning. */
export function networkTags(network: Network, instance: string, logger: Logger): WrittenTag[] {
  let details = detailsToTags(toJson(NetworkSchema, network));
  if (details === undefined) {
    logger.warn(
      { network: network.id },
      "the network's labels do not fit in AWS's tags: they are in the state alone",
    );
    details = detailsToTags(toJson(NetworkSchema, { ...network, labels: {}, options: {} })) ?? [];
  }
  return [{ Key: networkTag, Value: network.id }, { Key: instanceTag, Value: instance }, ...details];
}

/**
 * The network of a group.
 *
 * @returns undefined if the tags do not describe one
 */
export function networkOfGroup({ GroupId = "", Tags = [] }: SecurityGroup): NetworkRecord | undefined {
  const details = detailsOfTags(Tags);
  if (details === undefined) {
    return undefined;
  }
  try {
    const network = fromJson(NetworkSchema, details as JsonValue, { ignoreUnknownFields: true });
    return network.id === tagValue(Tags, networkTag)
      ? create(NetworkRecordSchema, { network, driverReference: GroupId })
      : undefined;
  } catch {
    return undefined; // The tags were changed by somebody.
  }
}
