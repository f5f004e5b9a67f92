/** The namespace's ResourceQuotas. */
import type { V1Container, V1Pod, V1ResourceQuota } from "@kubernetes/client-node";

import { type Expectations, ok, type Result, unknown, warning } from "../../common/finding.ts";
import { comparedWith } from "../cloud/upkeep/room.ts";
import type { QuotaUse } from "../driver/machine.ts";
import type { KubernetesClient } from "./api/client.ts";
import { KubernetesError } from "./api/errors.ts";
import type { PodSettings } from "./pods/pod-spec.ts";
import { numberIn } from "./quantities.ts";
import { admittedSample } from "./start-checks.ts";

/** One resource of one quota. */
interface Limit extends QuotaUse {
  /** `requests.cpu`, `pods`. */
  readonly resource: string;
  readonly most: number;
  /** Whether it holds for some pods only. */
  readonly isScoped: boolean;
}

/** Reads limits of the quotas, and what all in the namespace takes of them. @throws KubernetesError; the signal's reason */
export async function readQuotas(client: KubernetesClient, signal: AbortSignal): Promise<readonly Limit[]> {
  const { namespace } = client;
  const { items } = await client.call(
    "list resourcequotas",
    (options) => client.core.listNamespacedResourceQuota({ namespace }, options),
    signal,
  );
  return items.flatMap(limitsOf);
}

/** Compares what the quotas leave with the containers that are expected. @throws as {@link readQuotas} */
export async function checkQuotas(
  client: KubernetesClient,
  pods: PodSettings,
  expected: Pick<Expectations, "containers">,
  signal: AbortSignal,
): Promise<Result> {
  const limits = await readQuotas(client, signal);
  if (limits.length === 0) {
    return ok("the namespace has none");
  }
  const scoped = new Set(limits.filter(({ isScoped }) => isScoped).map(({ name }) => name));
  if (scoped.size > 0) {
    return unknown(`${[...scoped].join(", ")}: which pods these quotas with scopes hold for is not asked`);
  }
  try {
    const needs = needsOf(await admittedSample(client, pods, signal));
    const rooms = limits.flatMap(({ name, resource, most, used }) => {
      const needed = needs(resource);
      return needed > 0 ? [{ name, room: Math.max(0, Math.floor((most - used) / needed)) }] : [];
    });
    const [least] = rooms.toSorted((one, other) => one.room - other.room);
    const remedy = "raise it, or reserve less for each container (kubernetes.cpu_request, .memory_request)";
    return least === undefined
      ? ok("none is of what a pod takes")
      : comparedWith(expected, `the quota ${least.name}`, { room: least.room, remedy });
  } catch (error) {
    if (error instanceof KubernetesError && error.prospect === "room") {
      return warning(`there is no room for a container now: ${error.message}`);
    }
    throw error;
  }
}

function limitsOf({ metadata, spec, status }: V1ResourceQuota): readonly Limit[] {
  const isScoped = (spec?.scopes ?? []).length > 0 || spec?.scopeSelector !== undefined;
  return Object.entries(status?.hard ?? {}).map(([resource, most]) => ({
    name: `${metadata?.name}/${resource}`,
    resource,
    most: numberIn(most),
    used: numberIn(status?.used?.[resource] ?? "0"),
    isScoped,
  }));
}

/** The amount that a pod takes of a quota's resource, as Kubernetes counts it: its containers together, or its largest init container. */
function needsOf({ spec }: V1Pod): (resource: string) => number {
  return (resource) => {
    if (resource === "pods" || resource === "count/pods") {
      return 1;
    }
    const [, kind = "requests", name = resource] = /^(requests|limits)\.(.*)$/.exec(resource) ?? [];
    const amountOf = ({ resources }: V1Container): number =>
      numberIn(resources?.[kind as "requests" | "limits"]?.[name] ?? "0");
    const together = (spec?.containers ?? []).reduce((sum, container) => sum + amountOf(container), 0);
    return Math.max(together, ...(spec?.initContainers ?? []).map(amountOf));
  };
}
