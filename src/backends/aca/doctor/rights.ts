/** The permissions of the backend's roles, one check per action. */
import * as v from "valibot";

import type { AcaSection } from "../../../common/config/load.ts";
import { mustRead, object } from "../../../common/documents.ts";
import { type DoctorCheck, ok, wrong } from "../../../common/finding.ts";
import type { AzureClients } from "../arm/clients.ts";

/** Actions on one resource, or on a group of them. */
interface Rights {
  /** Resource ID. */
  readonly scope: string;
  /** Azure's built-in role that has them, as terraform/modules/aca assigns it. */
  readonly role: string;
  readonly actions: readonly string[];
}

/** Permissions of the caller at a scope: actions, with `*` as a wildcard, and excluded actions. */
const permissionsSchema = object({
  value: v.array(object({ actions: v.array(v.string()), notActions: v.optional(v.array(v.string()), []) })),
});

/** The checks; each queries what the caller's roles allow at the resource. Locks and policies are not included. */
export function rightChecks(config: AcaSection, azure: AzureClients): readonly DoctorCheck[] {
  return rightsFor(config).flatMap(({ scope, role, actions }) => {
    let asked: ReturnType<typeof permissionsAt> | undefined;
    return actions.map((action) => ({
      check: action,
      async look(signal: AbortSignal) {
        asked ??= permissionsAt(scope, azure, signal);
        const isAllowed = (await asked).some(
          (each) => matches(each.actions, action) && !matches(each.notActions, action),
        );
        return isAllowed ? ok() : wrong(`no role allows it at ${scope}: assign ${role} there`);
      },
    }));
  });
}

async function permissionsAt(scope: string, azure: AzureClients, signal: AbortSignal) {
  const url = azure.armUrl(`${scope}/providers/Microsoft.Authorization/permissions`, "2022-04-01");
  const { body } = await azure.call(
    "Permissions_ListForResource",
    (options) => azure.request({ method: "GET", url }, options),
    signal,
  );
  return mustRead(permissionsSchema, body).value;
}

function matches(patterns: readonly string[], action: string): boolean {
  return patterns.some((pattern) => {
    const parts = pattern.split("*").map((part) => part.replaceAll(".", "\\."));
    return new RegExp(`^${parts.join(".*")}$`, "i").test(action);
  });
}

function rightsFor(config: AcaSection): readonly Rights[] {
  const { subscriptionId, resourceGroup, managedEnvironmentName, storageAccountName } = config;
  const group = `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}`;
  const all = (prefix: string, ...names: readonly string[]): string[] =>
    names.map((name) => `${prefix}/${name}`);
  const environment = "Microsoft.App/managedEnvironments";
  const hasShares = storageAccountName !== undefined;
  const rights: Rights[] = [
    {
      scope: group,
      role: "Container Apps Jobs Contributor",
      actions: [
        ...all("Microsoft.App/jobs", "read", "write", "delete", "start/action", "stop/execution/action"),
        ...all("Microsoft.App/jobs", "executions/read", "execution/read"),
      ],
    },
    {
      scope: `${group}/providers/${environment}/${managedEnvironmentName}`,
      role: "Container Apps ManagedEnvironments Contributor",
      actions: [
        ...all(environment, "read", "join/action", "usages/read"),
        ...(hasShares ? all(`${environment}/storages`, "read", "write", "delete") : []),
      ],
    },
  ];
  if (hasShares) {
    const account = "Microsoft.Storage/storageAccounts";
    const needsKey = config.storageAccountKey === undefined;
    rights.push({
      scope: `${group}/providers/${account}/${storageAccountName}`,
      role: "Storage Account Contributor",
      actions: [
        ...all(account, "read", ...(needsKey ? ["listKeys/action"] : [])),
        ...all(`${account}/fileServices/shares`, "read", "write", "delete"),
      ],
    });
  }
  if (config.identity !== undefined) {
    rights.push({
      scope: config.identity,
      role: "Managed Identity Operator",
      actions: all("Microsoft.ManagedIdentity/userAssignedIdentities", "assign/action"),
    });
  }
  if (config.registryId !== undefined) {
    const registry = "Microsoft.ContainerRegistry/registries";
    const scope = config.registryId;
    rights.push({
      scope,
      role: "Container Registry Data Importer and Data Reader",
      actions: all(registry, "read", "importImage/action"),
    });
    if (config.registryUsername === undefined) {
      rights.push(
        { scope, role: "AcrPush", actions: all(registry, "pull/read", "push/write") },
        { scope, role: "AcrDelete", actions: all(registry, "artifacts/delete") },
      );
    }
  }
  return rights;
}
