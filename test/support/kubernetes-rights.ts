/** Rights of a backend in a real Kubernetes: those of deploy/kubernetes/role.yaml, and less. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { parse } from "yaml";

import { checkout } from "./daemon.ts";
import type { Cluster } from "./kubernetes-cluster.ts";

/** A rule of a Role. */
export interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** The documented rules. */
export async function roleRules(): Promise<readonly Rule[]> {
  return parse(await readFile(join(checkout, "deploy/kubernetes/role.yaml"), "utf8")).rules;
}

/** The rights of rules, as `create pods`. */
export function rightsOf(rules: readonly Rule[]): string[] {
  return rules.flatMap(({ resources, verbs }) =>
    resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
  );
}

/** Rules with all rights but one. */
export function withoutRight(rules: readonly Rule[], right: string): readonly Rule[] {
  const [without = "", resource = ""] = right.split(" ");
  return rules
    .map((rule) =>
      rule.resources.includes(resource)
        ? { ...rule, verbs: rule.verbs.filter((verb) => verb !== without) }
        : rule,
    )
    .filter(({ verbs }) => verbs.length > 0);
}

/** Gives the service account `sockerless` of a namespace these rights and no others. */
export async function giveRights(cluster: Cluster, namespace: string, rules: readonly Rule[]): Promise<void> {
  const metadata = { name: "sockerless", namespace };
  const rbac = { apiVersion: "rbac.authorization.k8s.io/v1" };
  await cluster.apply(
    { ...{ apiVersion: "v1", kind: "ServiceAccount" }, metadata },
    { ...rbac, kind: "Role", metadata, rules },
    {
      ...{ ...rbac, kind: "RoleBinding", metadata },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "sockerless" },
      subjects: [{ kind: "ServiceAccount", name: "sockerless", namespace }],
    },
  );
}
