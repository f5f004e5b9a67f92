/** AWS's rate limits per account, and the calls that share them. */
import type { CapacityProviderStrategyItem } from "@aws-sdk/client-ecs";

import { parseRates as readRates } from "../../cloud/calls/configured-rates.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";

/** AWS's published defaults in most regions, overridden by `ecs.api_rates`. */
export const defaultRates = {
  /** Registering and deregistering task definitions. */
  "task-definition-writes": { burst: 20, perSecond: 1 },
  "task-definition-deletions": { burst: 5, perSecond: 1 },
  "task-definition-reads": { burst: 50, perSecond: 20 },
  /** RunTask, StopTask and other calls that change tasks. */
  "task-writes": { burst: 100, perSecond: 40 },
  /** RunTask on Fargate, within `task-writes`. */
  "run-task": { burst: 20, perSecond: 20 },
  "fargate-launches": { burst: 100, perSecond: 20 },
  "spot-launches": { burst: 100, perSecond: 20 },
  "task-reads": { burst: 100, perSecond: 20 },
  /** Lower in some regions: see {@link ratesOf}. */
  "log-reads": { burst: 25, perSecond: 25 },
  /** EC2 limits each of its calls separately. */
  "group-creations": { burst: 50, perSecond: 5 },
  "group-permissions": { burst: 50, perSecond: 5 },
  "group-revocations": { burst: 50, perSecond: 5 },
  "group-deletions": { burst: 50, perSecond: 5 },
  /** AWS publishes no rates for Cloud Map; these have been observed to work. */
  "name-services": { burst: 5, perSecond: 5 },
  "name-instances": { burst: 50, perSecond: 50 },
} as const satisfies Record<string, Rate>;

/** A rate that several calls share. */
export type RateName = keyof typeof defaultRates;

/** Regions with a lower rate for reading logs. There may be more; there, throttling slows this backend down. */
export const regionsOfSlowLogs: ReadonlySet<string> = new Set(["eu-central-1", "eu-west-1", "us-west-2"]);

/** The rate of `log-reads` in {@link regionsOfSlowLogs}. */
export const slowLogReads: Rate = { burst: 10, perSecond: 10 };

/** AWS's published defaults in a region. */
export function ratesOf(region: string): Readonly<Record<RateName, Rate>> {
  return regionsOfSlowLogs.has(region) ? { ...defaultRates, "log-reads": slowLogReads } : defaultRates;
}

/** Priorities of calls that share a rate: starts first, since users wait for them, then stops, then cleanup. */
const priorities = { start: 0, stop: 1, clear: 2 } as const;

interface Pace {
  readonly rates: readonly RateName[];
  readonly priority: number;
}

/** Whether an item of a task's strategy asks for Spot capacity. */
export function isSpot({ capacityProvider = "" }: CapacityProviderStrategyItem): boolean {
  return capacityProvider.endsWith("_SPOT");
}

/** The limits of a call, the scarcest rate first; undefined if AWS's limit is far above this backend's use. */
export function paceOf(operation: string, spot: boolean): Pace | undefined {
  if (operation === "RunTask") {
    return {
      rates: ["run-task", spot ? "spot-launches" : "fargate-launches", "task-writes"],
      priority: priorities.start,
    };
  }
  return paces[operation];
}

const paces: Readonly<Record<string, Pace>> = {
  StopTask: { rates: ["task-writes"], priority: priorities.stop },
  TagResource: { rates: ["task-writes"], priority: priorities.start },
  RegisterTaskDefinition: { rates: ["task-definition-writes"], priority: priorities.start },
  DeregisterTaskDefinition: { rates: ["task-definition-writes"], priority: priorities.clear },
  DeleteTaskDefinitions: { rates: ["task-definition-deletions"], priority: priorities.clear },
  DescribeTaskDefinition: { rates: ["task-definition-reads"], priority: priorities.start },
  ListTaskDefinitionFamilies: { rates: ["task-definition-reads"], priority: priorities.clear },
  ListTaskDefinitions: { rates: ["task-definition-reads"], priority: priorities.clear },
  DescribeTasks: { rates: ["task-reads"], priority: priorities.start },
  ListTasks: { rates: ["task-reads"], priority: priorities.clear },
  GetLogEvents: { rates: ["log-reads"], priority: priorities.start },
  CreateSecurityGroup: { rates: ["group-creations"], priority: priorities.start },
  AuthorizeSecurityGroupIngress: { rates: ["group-permissions"], priority: priorities.start },
  RevokeSecurityGroupIngress: { rates: ["group-revocations"], priority: priorities.clear },
  DeleteSecurityGroup: { rates: ["group-deletions"], priority: priorities.clear },
  CreateService: { rates: ["name-services"], priority: priorities.start },
  DeleteService: { rates: ["name-services"], priority: priorities.clear },
  RegisterInstance: { rates: ["name-instances"], priority: priorities.start },
  DeregisterInstance: { rates: ["name-instances"], priority: priorities.clear },
};

/** Parses `ecs.api_rates`: `run-task=100/40`. @throws as {@link readRates} */
export function parseRates(settings: readonly string[]): Partial<Record<RateName, Rate>> {
  return readRates("ecs.api_rates", defaultRates, settings);
}
