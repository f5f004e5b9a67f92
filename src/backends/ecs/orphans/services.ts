import {
  DeleteServiceCommand,
  DeregisterInstanceCommand,
  type ServiceDiscoveryClient,
} from "@aws-sdk/client-servicediscovery";

import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import { instancesOf, type NamedService, servicesOf } from "../cloud-map/services.ts";
import type { Orphan } from "../../cloud/orphans/orphan.ts";

/** Names in Cloud Map of other instances; this one's own are removed by its backend. */
export async function orphanedServices(
  client: AwsService<ServiceDiscoveryClient>,
  namespaceId: string,
  own: string,
): Promise<Orphan[]> {
  const services = await servicesOf(client, namespaceId);
  return services
    .filter(({ instance }) => instance !== own)
    .map((service) => ({
      kind: "Cloud Map service",
      id: service.id,
      purpose: `name ${service.name}`,
      instance: service.instance,
      remove: () => removeService(client, service),
    }));
}

async function removeService(
  client: AwsService<ServiceDiscoveryClient>,
  { id }: NamedService,
): Promise<string | undefined> {
  try {
    for (const instanceId of (await instancesOf(client, id)).keys()) {
      await client.send(new DeregisterInstanceCommand({ ServiceId: id, InstanceId: instanceId }));
    }
    await client.send(new DeleteServiceCommand({ Id: id }));
  } catch (error) {
    if (isAwsError(error, "ResourceInUse")) {
      return "its instances are still being deregistered";
    }
    if (!isAwsError(error, "ServiceNotFound")) {
      throw error;
    }
  }
  return undefined;
}
