/**
 * Token buckets of Azure Resource Manager, per subscription, principal and region, after "Understand how Azure Resource
 * Manager throttles requests": reads 250 + 25/s, writes 200 + 10/s, deletes 200 + 10/s. Log Analytics takes 200 queries in
 * 30 seconds.
 */
import type { Rate } from "../../common/rates.ts";
import type { ArmOperation, ResourceProvider } from "./provider.ts";

/** The name of a query of logs in the log of calls. */
export const queryOperation = "loganalytics.Query_Execute";

/** The rates of some providers' operations. */
export function publishedRates(providers: readonly ResourceProvider[]): Rate[] {
  const named = (belongs: (operation: ArmOperation) => boolean): string[] =>
    providers.flatMap(({ name, operations }) =>
      operations.filter(belongs).map((operation) => `${name}.${operation.name}`),
    );
  return [
    { name: "reads", operations: named(({ method }) => method === "GET"), burst: 250, perSecond: 25 },
    {
      name: "writes",
      operations: named(({ method }) => method !== "GET" && method !== "DELETE"),
      burst: 200,
      perSecond: 10,
    },
    { name: "deletes", operations: named(({ method }) => method === "DELETE"), burst: 200, perSecond: 10 },
    { name: "queries", operations: [queryOperation], burst: 200, perSecond: 200 / 30 },
  ];
}
