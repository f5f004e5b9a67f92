/** Cloud Map's calls about instances. */
import { isIPv4, isIPv6 } from "node:net";

import { AwsFault, type Operation, operations } from "../../wire/service.ts";
import { Permissions, requirePage } from "./requests.ts";
import type { DiscoveryService, Instance, Registry } from "./state.ts";

const instancesPerService = 1000;
const attributesPerInstance = 30;

/** The operations on instances. */
export function instanceOperations(registry: Registry): Readonly<Record<string, Operation>> {
  const permissions = new Permissions(registry);

  return operations<typeof import("@aws-sdk/client-servicediscovery")>({
    RegisterInstance: {
      access: ({ ServiceId = "" }) => [
        ...permissions.onService("RegisterInstance", ServiceId),
        ...permissions.inDns(ServiceId),
      ],
      run: ({ ServiceId = "", InstanceId = "", Attributes = {}, CreatorRequestId }) => {
        const service = registry.service(ServiceId);
        checkAttributes(service, Attributes);
        const isNew = !service.instances.has(InstanceId);
        if (isNew && service.instances.size >= instancesPerService) {
          throw new AwsFault(
            "ResourceLimitExceeded",
            "The limit of instances for this service has been reached.",
          );
        }
        return occupy(registry, service, InstanceId, () =>
          service.instances.set(InstanceId, {
            id: InstanceId,
            attributes: Attributes,
            creatorRequestId: CreatorRequestId,
          }),
        );
      },
    },

    DeregisterInstance: {
      access: ({ ServiceId = "" }) => permissions.onService("DeregisterInstance", ServiceId),
      run: ({ ServiceId = "", InstanceId = "" }) => {
        const service = registry.service(ServiceId);
        requireInstance(service, InstanceId);
        return occupy(registry, service, InstanceId, () => service.instances.delete(InstanceId));
      },
    },

    ListInstances: {
      access: ({ ServiceId = "" }) => permissions.onService("ListInstances", ServiceId),
      run: ({ ServiceId = "", NextToken, MaxResults }) => {
        const all = [...registry.service(ServiceId).instances.values()];
        const { items, next } = requirePage(all, NextToken, MaxResults);
        const Instances = items.map(({ id, attributes }) => ({ Id: id, Attributes: { ...attributes } }));
        return { Instances, NextToken: next };
      },
    },
  });
}

/** Begins an operation on an instance; one at a time. */
function occupy(
  registry: Registry,
  service: DiscoveryService,
  instanceId: string,
  effect: () => void,
): { readonly OperationId: string } {
  if (service.busy.has(instanceId)) {
    const message = `Another operation on instance ${instanceId} is in progress.`;
    throw new AwsFault("DuplicateRequest", message);
  }
  service.busy.add(instanceId);
  const OperationId = registry.begin(() => {
    service.busy.delete(instanceId);
    effect();
  });
  return { OperationId };
}

function requireInstance({ id, instances }: DiscoveryService, instanceId: string): Instance {
  const found = instances.get(instanceId);
  if (found === undefined) {
    throw new AwsFault("InstanceNotFound", `No instance with ID ${instanceId} in service ${id}.`);
  }
  return found;
}

/** Refuses attributes that lack what the service's DNS records need. @throws AwsFault `InvalidInput` */
function checkAttributes({ records }: DiscoveryService, attributes: Readonly<Record<string, string>>): void {
  const needs = (type: string): boolean => records.some((record) => record.Type === type);
  const address = attributes["AWS_INSTANCE_IPV4"];
  if (Object.keys(attributes).length > attributesPerInstance) {
    throw new AwsFault("InvalidInput", `An instance has at most ${attributesPerInstance} attributes.`);
  }
  if ((needs("A") || needs("SRV")) && address === undefined) {
    throw new AwsFault("InvalidInput", "The attribute AWS_INSTANCE_IPV4 is required.");
  }
  if (address !== undefined && !isIPv4(address)) {
    throw new AwsFault("InvalidInput", `AWS_INSTANCE_IPV4 is no IPv4 address: ${address}`);
  }
  const ipv6Address = attributes["AWS_INSTANCE_IPV6"];
  if (needs("AAAA") && ipv6Address === undefined) {
    throw new AwsFault("InvalidInput", "The attribute AWS_INSTANCE_IPV6 is required.");
  }
  if (ipv6Address !== undefined && !isIPv6(ipv6Address)) {
    throw new AwsFault("InvalidInput", `AWS_INSTANCE_IPV6 is no IPv6 address: ${ipv6Address}`);
  }
  if (needs("SRV") && attributes["AWS_INSTANCE_PORT"] === undefined) {
    throw new AwsFault("InvalidInput", "The attribute AWS_INSTANCE_PORT is required.");
  }
}
