/**
 * The published request rates, per account and region. Those of Cloud Map are not published: what is here is what a
 * careful client paces itself to.
 */
import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import type { Rate } from "../../common/rates.ts";
import { simulatedOperations } from "../models/operations.ts";

/** Regions where `GetLogEvents` is allowed ten times a second, and not twenty-five times. */
const regionsOfSlowLogs = [
  "ap-northeast-1",
  "ap-south-1",
  "ap-southeast-1",
  "ap-southeast-2",
  "eu-central-1",
  "eu-west-1",
  "us-west-2",
];

/** Every rate that is simulated. */
export function publishedRates(region: string): readonly Rate[] {
  return [...ecsRates, ...ec2Rates(), ...logsRates(region), ...cloudMapRates];
}

const ecsRates: readonly Rate[] = [
  rate("ecs task definition writes", ["ecs.RegisterTaskDefinition", "ecs.DeregisterTaskDefinition"], 20, 1),
  rate("ecs task definition deletions", ["ecs.DeleteTaskDefinitions"], 5, 1),
  rate("ecs task writes", ["ecs.RunTask", "ecs.StopTask"], 100, 40),
  rate("fargate run task calls", ["ecs.RunTask"], 20, 20),
  {
    ...rate("fargate launches", ["ecs.RunTask"], 100, 20),
    cost: (input) => (isSpot(input) ? 0 : tasksOf(input)),
  },
  {
    ...rate("fargate spot launches", ["ecs.RunTask"], 100, 20),
    cost: (input) => (isSpot(input) ? tasksOf(input) : 0),
  },
  rate("ecs task reads", ["ecs.DescribeTasks", "ecs.ListTasks"], 100, 20),
  rate(
    "ecs definition and cluster reads",
    [
      "ecs.DescribeClusters",
      "ecs.DescribeTaskDefinition",
      "ecs.ListTaskDefinitionFamilies",
      "ecs.ListTaskDefinitions",
    ],
    50,
    20,
  ),
];

/** Each call of EC2 has a bucket of its own. */
function ec2Rates(): Rate[] {
  return simulatedOperations.ec2.flatMap((operation) => {
    const name = `ec2.${operation}`;
    if (!operation.startsWith("Describe")) {
      return [rate(name, [name], 50, 5)];
    }
    const unfiltered = {
      ...rate(`${name} without filter or page`, [name], 50, 10),
      cost: (input: unknown) => (Object.keys(input as object).length === 0 ? 1 : 0),
    };
    return [rate(name, [name], 100, 20), unfiltered];
  });
}

function logsRates(region: string): Rate[] {
  const getLogEvents = regionsOfSlowLogs.includes(region) ? 10 : 25;
  return [
    rate("logs.GetLogEvents", ["logs.GetLogEvents"], getLogEvents, getLogEvents),
    rate("logs.DescribeLogGroups", ["logs.DescribeLogGroups"], 10, 10),
  ];
}

const cloudMapRates: readonly Rate[] = [
  rate("cloud map services", ["servicediscovery.CreateService", "servicediscovery.DeleteService"], 10, 5),
  rate(
    "cloud map instances",
    ["servicediscovery.RegisterInstance", "servicediscovery.DeregisterInstance"],
    100,
    50,
  ),
];

function rate(name: string, operations: readonly string[], burst: number, perSecond: number): Rate {
  return { name, operations, burst, perSecond };
}

function tasksOf(input: unknown): number {
  return (input as RunTaskCommandInput).count ?? 1;
}

function isSpot(input: unknown): boolean {
  const { capacityProviderStrategy = [] } = input as RunTaskCommandInput;
  return capacityProviderStrategy.some(({ capacityProvider }) => capacityProvider === "FARGATE_SPOT");
}
