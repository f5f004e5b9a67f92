/** Cloud Map's calls about namespaces and asynchronous operations. */
import type {
  CreatePrivateDnsNamespaceCommandInput,
  CreatePrivateDnsNamespaceCommandOutput,
  DeleteNamespaceCommandInput,
  DeleteNamespaceCommandOutput,
  GetNamespaceCommandInput,
  GetNamespaceCommandOutput,
  GetOperationCommandInput,
  GetOperationCommandOutput,
  ListNamespacesCommandInput,
  ListNamespacesCommandOutput,
} from "@aws-sdk/client-servicediscovery";

import type { Context } from "../../context.ts";
import { AwsFault, type Operation, operation } from "../../wire/service.ts";
import { requestTagContext, tagMap } from "../tags.ts";
import { checkedTags, Permissions, requirePage } from "./requests.ts";
import type { Namespace, Registry } from "./state.ts";

/** The operations on namespaces. */
export function namespaceOperations(
  context: Context,
  registry: Registry,
  vpcId: string,
): Record<string, Operation> {
  const permissions = new Permissions(context, registry);

  const shown = (namespace: Namespace) => ({
    Id: namespace.id,
    Arn: registry.namespaceArn(namespace.id),
    Name: namespace.name,
    Type: "DNS_PRIVATE" as const,
    Description: namespace.description,
    ServiceCount: registry.servicesOf(namespace.id).length,
    Properties: {
      DnsProperties: { HostedZoneId: namespace.hostedZoneId, SOA: { TTL: 15 } },
      HttpProperties: { HttpName: namespace.name },
    },
    CreateDate: namespace.createdAt,
  });

  return {
    CreatePrivateDnsNamespace: operation<
      CreatePrivateDnsNamespaceCommandInput,
      CreatePrivateDnsNamespaceCommandOutput
    >({
      access: ({ Tags }) => {
        const tags = requestTagContext(tagMap(Tags));
        const create = permissions
          .anywhere("CreatePrivateDnsNamespace")
          .map((each) => ({ ...each, context: tags }));
        return context.switches.cloudMapNeedsRoute53Rights
          ? [
              ...create,
              { action: "route53:CreateHostedZone", resource: "*" },
              { action: "ec2:DescribeVpcs", resource: "*" },
            ]
          : create;
      },
      run: ({ Name = "", Vpc, Description, CreatorRequestId, Tags }) => {
        if (Vpc !== vpcId) {
          throw new AwsFault("InvalidInput", `The VPC ${Vpc} does not exist in this region.`);
        }
        const existing = [...registry.namespaces.values()].find((each) => each.name === Name);
        if (existing !== undefined) {
          throw new AwsFault("NamespaceAlreadyExists", "Namespace already exists for this VPC.", undefined, {
            NamespaceId: existing.id,
            CreatorRequestId: existing.creatorRequestId,
          });
        }
        if (registry.namespaces.size >= context.quotas.namespaces) {
          throw new AwsFault("ResourceLimitExceeded", "The limit of namespaces has been reached.");
        }
        const tags = checkedTags(tagMap(Tags));
        const namespace = registry.newNamespace(Name, Description, CreatorRequestId, tags);
        const target = { kind: "NAMESPACE", id: namespace.id } as const;
        const OperationId = registry.begin("CREATE_NAMESPACE", [target], () =>
          registry.namespaces.set(namespace.id, namespace),
        );
        return { OperationId };
      },
    }),

    DeleteNamespace: operation<DeleteNamespaceCommandInput, DeleteNamespaceCommandOutput>({
      access: ({ Id = "" }) => permissions.onNamespace("DeleteNamespace", Id),
      run: ({ Id = "" }) => {
        const { id } = registry.namespace(Id);
        if (registry.servicesOf(id).length > 0) {
          const message = "Namespace has associated services; delete them before you delete the namespace.";
          throw new AwsFault("ResourceInUse", message);
        }
        const OperationId = registry.begin("DELETE_NAMESPACE", [{ kind: "NAMESPACE", id }], () =>
          registry.namespaces.delete(id),
        );
        return { OperationId };
      },
    }),

    GetNamespace: operation<GetNamespaceCommandInput, GetNamespaceCommandOutput>({
      access: ({ Id = "" }) => permissions.onNamespace("GetNamespace", Id),
      run: ({ Id = "" }) => ({ Namespace: shown(registry.namespace(Id)) }),
    }),

    ListNamespaces: operation<ListNamespacesCommandInput, ListNamespacesCommandOutput>({
      access: () => permissions.anywhere("ListNamespaces"),
      run: ({ NextToken, MaxResults, Filters = [] }) => {
        const found = [...registry.namespaces.values()].filter((namespace) =>
          Filters.every(({ Name, Values = [], Condition = "EQ" }) => {
            if (Condition !== "EQ" || (Name !== "NAME" && Name !== "TYPE")) {
              throw new AwsFault(
                "InvalidInput",
                `The filter ${Name} with ${Condition} is not simulated`,
                501,
              );
            }
            return Values.includes(Name === "NAME" ? namespace.name : "DNS_PRIVATE");
          }),
        );
        const { items, next } = requirePage(found, NextToken, MaxResults);
        return { Namespaces: items.map(shown), NextToken: next };
      },
    }),

    GetOperation: operation<GetOperationCommandInput, GetOperationCommandOutput>({
      access: () => permissions.anywhere("GetOperation"),
      run: ({ OperationId = "" }) => {
        const found = registry.operations.get(OperationId);
        if (found === undefined) {
          throw new AwsFault("OperationNotFound", `No operation with ID ${OperationId}.`);
        }
        return {
          Operation: {
            Id: found.id,
            Type: found.type,
            Status: found.status,
            CreateDate: found.createdAt,
            UpdateDate: found.updatedAt,
            Targets: Object.fromEntries(found.targets.map(({ kind, id }) => [kind, id])),
          },
        };
      },
    }),
  };
}
