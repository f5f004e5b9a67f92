/** The services of sockerless in a Cloud Map namespace. All functions throw AwsError. */
import {
  ListInstancesCommand,
  ListServicesCommand,
  type ServiceDiscoveryClient,
  type ServiceFilter,
} from "@aws-sdk/client-servicediscovery";

import { pagesOf } from "../../cloud/calls/pages.ts";
import type { AwsService } from "../aws/clients.ts";

/** A service created by an instance of sockerless. */
export interface NamedService {
  readonly id: string;
  readonly name: string;
  readonly instance: string;
}

/** Names of an instance's attributes with its address. */
export const ipv4Attribute = "AWS_INSTANCE_IPV4";
export const ipv6Attribute = "AWS_INSTANCE_IPV6";

const describedAs = /^sockerless (\S+)$/;

/** The description of an instance's services, which identifies their owner: listings have no tags. */
export function descriptionOf(instance: string): string {
  return `sockerless ${instance}`;
}

/** The services of all instances. */
export async function servicesOf(
  client: AwsService<ServiceDiscoveryClient>,
  namespaceId: string,
  signal?: AbortSignal,
): Promise<NamedService[]> {
  const found: NamedService[] = [];
  const options = signal === undefined ? {} : { abortSignal: signal };
  const inNamespace: ServiceFilter = { Name: "NAMESPACE_ID", Values: [namespaceId], Condition: "EQ" };
  const pages = pagesOf(
    (NextToken) => client.send(new ListServicesCommand({ Filters: [inNamespace], NextToken }), options),
    (page) => page.NextToken,
  );
  for await (const { Services = [] } of pages) {
    for (const { Id, Name, Description } of Services) {
      const instance = describedAs.exec(Description ?? "")?.[1];
      if (Id !== undefined && Name !== undefined && instance !== undefined) {
        found.push({ id: Id, name: Name, instance });
      }
    }
  }
  return found;
}

/** The addresses of a service, by instance ID. */
export async function instancesOf(
  client: AwsService<ServiceDiscoveryClient>,
  serviceId: string,
  signal?: AbortSignal,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const options = signal === undefined ? {} : { abortSignal: signal };
  const pages = pagesOf(
    (NextToken) => client.send(new ListInstancesCommand({ ServiceId: serviceId, NextToken }), options),
    (page) => page.NextToken,
  );
  for await (const { Instances = [] } of pages) {
    for (const { Id, Attributes } of Instances) {
      found.set(Id ?? "", Attributes?.[ipv4Attribute] ?? Attributes?.[ipv6Attribute] ?? "");
    }
  }
  return found;
}
