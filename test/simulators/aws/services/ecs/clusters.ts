/** The account's clusters. They are made by other means than the simulated API. */
import type { Cluster } from "@aws-sdk/client-ecs";

import { arnOf, type Context } from "../../context.ts";
import { AwsFault, type Given, type Operation, operations } from "../../wire/service.ts";
import type { EcsTags } from "./ecs-tags.ts";

/** A cluster, with both of Fargate's capacity providers. */
export interface EcsCluster {
  readonly name: string;
  status: "ACTIVE" | "INACTIVE";
}

/** Counts the tasks of a cluster. */
export type TaskCounts = (clusterArn: string) => { readonly running: number; readonly pending: number };

export class Clusters {
  readonly #context: Context;
  readonly #byName = new Map<string, EcsCluster>();

  constructor(context: Context) {
    this.#context = context;
  }

  add(name: string): EcsCluster {
    const cluster: EcsCluster = { name, status: "ACTIVE" };
    this.#byName.set(name, cluster);
    return cluster;
  }

  /** Finds a cluster by name or ARN; `default`: for a request that names none. */
  find(reference = "default"): EcsCluster | undefined {
    return this.#byName.get(reference.slice(reference.lastIndexOf("/") + 1));
  }

  /** @throws AwsFault `ClusterNotFoundException` */
  get(reference: string | undefined): EcsCluster {
    const found = this.find(reference);
    if (found?.status !== "ACTIVE") {
      throw new AwsFault("ClusterNotFoundException", "Cluster not found.");
    }
    return found;
  }

  arnOf(reference = "default"): string {
    return arnOf(this.#context, "ecs", `cluster/${reference.slice(reference.lastIndexOf("/") + 1)}`);
  }
}

/** The operations on clusters. */
export function clusterOperations(
  clusters: Clusters,
  tags: EcsTags,
  countTasks: TaskCounts,
): Readonly<Record<string, Operation>> {
  return operations<typeof import("@aws-sdk/client-ecs")>({
    DescribeClusters: {
      access: ({ clusters: names = ["default"] }) =>
        names.map((name) => ({ action: "ecs:DescribeClusters", resource: clusters.arnOf(name) })),
      run: ({ clusters: names = ["default"], include = [] }) => {
        const found: Given<Cluster>[] = [];
        const failures = [];
        for (const name of names) {
          const cluster = clusters.find(name);
          const clusterArn = clusters.arnOf(name);
          if (cluster === undefined) {
            failures.push({ arn: clusterArn, reason: "MISSING" });
            continue;
          }
          const { running, pending } = countTasks(clusterArn);
          found.push({
            clusterArn,
            clusterName: cluster.name,
            status: cluster.status,
            registeredContainerInstancesCount: 0,
            runningTasksCount: running,
            pendingTasksCount: pending,
            activeServicesCount: 0,
            statistics: [],
            settings: [],
            tags: include.includes("TAGS") ? tags.list(clusterArn) : [],
            capacityProviders: ["FARGATE", "FARGATE_SPOT"],
            defaultCapacityProviderStrategy: [],
          });
        }
        return { clusters: found, failures };
      },
    },
  });
}
