/** Cloud Map's calls about services and their namespace. */
import type { CreateServiceCommandInput } from "@aws-sdk/client-servicediscovery";

import type { Context } from "../../context.ts";
import { lowercaseId } from "../../ids.ts";
import { AwsFault, type Given, type Operation, operations } from "../../wire/service.ts";
import { checkedTags, requestTagContext, tagMap } from "../tags.ts";
import { Permissions, requirePage } from "./requests.ts";
import type { DiscoveryService, Registry } from "./state.ts";

/** The operations on services. */
export function serviceOperations(context: Context, registry: Registry): Readonly<Record<string, Operation>> {
  const permissions = new Permissions(registry);

  return operations<typeof import("@aws-sdk/client-servicediscovery")>({
    CreateService: {
      access: ({ NamespaceId = "", DnsConfig, Tags }) => {
        const tags = requestTagContext(tagMap(Tags));
        const namespaceId = NamespaceId === "" ? (DnsConfig?.NamespaceId ?? "") : NamespaceId;
        const create = [
          ...permissions.onNamespace("CreateService", namespaceId, tags),
          ...permissions.onNewService("CreateService", namespaceId, tags),
        ];
        return Tags === undefined || Tags.length === 0
          ? create
          : [...create, ...permissions.anywhere("TagResource", tags)];
      },
      run: (input) => {
        const { id: namespaceId } = registry.namespace(
          input.NamespaceId ?? input.DnsConfig?.NamespaceId ?? "",
        );
        const wanted = newService(context, namespaceId, input);
        // Names in DNS have no case.
        const existing = registry
          .servicesOf(namespaceId)
          .find(({ name }) => name.toLowerCase() === wanted.name.toLowerCase());
        if (existing !== undefined) {
          if (
            wanted.creatorRequestId !== undefined &&
            existing.creatorRequestId === wanted.creatorRequestId
          ) {
            return { Service: shown(registry, existing) };
          }
          throw new AwsFault("ServiceAlreadyExists", "Service already exists.", undefined, {
            ServiceId: existing.id,
            ServiceArn: registry.serviceArn(existing.id),
            CreatorRequestId: existing.creatorRequestId,
          });
        }
        registry.services.set(wanted.id, wanted);
        return { Service: shown(registry, wanted) };
      },
    },

    DeleteService: {
      access: ({ Id = "" }) => permissions.onService("DeleteService", Id),
      run: ({ Id = "" }) => {
        const service = registry.service(Id);
        if (service.instances.size > 0 || service.busy.size > 0) {
          const message =
            "Service contains registered instances; delete the instances before deleting the service";
          throw new AwsFault("ResourceInUse", message);
        }
        registry.services.delete(service.id);
        return {};
      },
    },

    GetNamespace: {
      access: ({ Id = "" }) => permissions.onNamespace("GetNamespace", Id),
      run: ({ Id = "" }) => {
        const { id, name, hostedZoneId } = registry.namespace(Id);
        return {
          Namespace: {
            Id: id,
            Arn: registry.namespaceArn(id),
            Name: name,
            Type: "DNS_PRIVATE",
            Properties: { DnsProperties: { HostedZoneId: hostedZoneId } },
          },
        };
      },
    },

    ListServices: {
      access: () => permissions.anywhere("ListServices"),
      run: ({ NextToken, MaxResults, Filters = [] }) => {
        const found = [...registry.services.values()].filter((service) =>
          Filters.every(({ Name, Values = [], Condition = "EQ" }) => {
            if (Name !== "NAMESPACE_ID" || Condition !== "EQ") {
              throw new AwsFault(
                "InvalidInput",
                `The filter ${Name} with ${Condition} is not simulated`,
                501,
              );
            }
            return Values.includes(service.namespaceId);
          }),
        );
        const known = found.filter(({ createdAt }) => {
          const { clock, switches } = context;
          return clock.nowMs() >= createdAt.getTime() + switches.eventualConsistencyMs.servicediscovery;
        });
        const { items, next } = requirePage(known, NextToken, MaxResults);
        return { Services: items.map((each) => summary(registry, each)), NextToken: next };
      },
    },
  });
}

function newService(
  { clock }: Context,
  namespaceId: string,
  input: Given<CreateServiceCommandInput>,
): DiscoveryService {
  const { DnsConfig } = input;
  if (input.HealthCheckConfig !== undefined) {
    throw new AwsFault("InvalidInput", "HealthCheckConfig is for public DNS namespaces only.");
  }
  const records = (DnsConfig?.DnsRecords ?? []).map(({ Type, TTL }) => ({
    Type: Type ?? "A",
    TTL: TTL ?? 0,
  }));
  if (new Set(records.map(({ Type }) => Type)).size < records.length) {
    throw new AwsFault("InvalidInput", "A service has one DNS record of each type.");
  }
  return {
    id: lowercaseId("srv"),
    name: input.Name ?? "",
    namespaceId,
    description: input.Description,
    routingPolicy: DnsConfig?.RoutingPolicy ?? "MULTIVALUE",
    records,
    customHealthCheck: input.HealthCheckCustomConfig !== undefined,
    createdAt: clock.now(),
    creatorRequestId: input.CreatorRequestId,
    instances: new Map(),
    busy: new Set(),
    tags: checkedTags(tagMap(input.Tags), "InvalidInput"),
  };
}

function shown(registry: Registry, service: DiscoveryService) {
  return {
    ...summary(registry, service),
    NamespaceId: service.namespaceId,
    CreatorRequestId: service.creatorRequestId,
  };
}

/** A service as lists show it. */
function summary(registry: Registry, service: DiscoveryService) {
  return {
    Id: service.id,
    Arn: registry.serviceArn(service.id),
    Name: service.name,
    Description: service.description,
    InstanceCount: service.instances.size,
    Type: service.records.length > 0 ? ("DNS_HTTP" as const) : ("HTTP" as const),
    ...(service.records.length > 0
      ? { DnsConfig: { RoutingPolicy: service.routingPolicy, DnsRecords: [...service.records] } }
      : {}),
    ...(service.customHealthCheck ? { HealthCheckCustomConfig: { FailureThreshold: 1 } } : {}),
    CreateDate: service.createdAt,
  };
}
