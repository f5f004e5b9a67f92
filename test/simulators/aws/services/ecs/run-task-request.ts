/** Checks of a RunTask request, made before anything is started. */
import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import type { VpcNetwork } from "../../cloud.ts";
import { AwsFault, type Given } from "../../wire/service.ts";
import type { RegisteredDefinition } from "./definitions.ts";
import { isRole } from "./roles.ts";
import { cpuUnits, isFargateSize, memoryMib } from "./sizes.ts";
import type { Placement } from "./task-state.ts";

type Request = Given<RunTaskCommandInput>;

/** The most characters that a request's overrides have, as JSON. */
const longestOverrides = 8192;

/** @throws AwsFault for what RunTask does not take */
export function checkRunTask(request: Request, definition: RegisteredDefinition): void {
  const { count = 1, clientToken, startedBy = "", overrides = {} } = request;
  if (count < 1 || count > 10) {
    throw invalid("count must be between 1 and 10.");
  }
  if (clientToken !== undefined && !/^[\x21-\x7e]{1,64}$/.test(clientToken)) {
    throw invalid("clientToken must have 1 to 64 characters of ASCII 33-126.");
  }
  if (!/^[A-Za-z0-9_\-/]{0,128}$/.test(startedBy)) {
    throw invalid("startedBy must have at most 128 letters, digits, hyphens, slashes and underscores.");
  }
  if (request.launchType !== undefined && (request.capacityProviderStrategy ?? []).length > 0) {
    throw invalid(
      "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
    );
  }
  if ((request.placementConstraints ?? []).length > 0 || (request.placementStrategy ?? []).length > 0) {
    throw invalid("Placement constraints and strategies are not supported with FARGATE launch type.");
  }
  if (definition.compatibilities?.includes("FARGATE") !== true) {
    throw invalid("Task definition does not support launch_type FARGATE.");
  }
  const { platformVersion = "LATEST" } = request;
  if (!["LATEST", "1.4.0"].includes(platformVersion)) {
    throw invalid(`The platform version '${platformVersion}' does not exist.`);
  }
  checkOverrides(overrides, definition);
}

/** @throws AwsFault for what is neither an ID nor the ARN of a task */
export function checkTaskReference(reference: string): void {
  const id = reference.startsWith("arn:")
    ? /^arn:aws[a-z-]*:ecs:[a-z0-9-]+:\d{12}:task\/(?:[\w-]+\/)?([^/]*)$/.exec(reference)?.[1]
    : reference;
  if (id === undefined) {
    throw invalid("Invalid identifier: Identifier is for another kind of resource, or is malformed.");
  }
  if (id.length !== 32 && id.length !== 36) {
    throw invalid("taskId length should be one of [32,36]");
  }
  if (!/^[0-9a-f-]*$/.test(id)) {
    throw invalid("Invalid identifier: taskId has other characters than hexadecimal digits and hyphens.");
  }
}

function checkOverrides(
  overrides: NonNullable<Request["overrides"]>,
  definition: RegisteredDefinition,
): void {
  const badRole = [overrides.taskRoleArn, overrides.executionRoleArn].find((role) => !isRole(role));
  if (badRole !== undefined) {
    throw new AwsFault("ClientException", `Role is not valid: '${badRole}'.`);
  }
  const length = JSON.stringify(overrides).length;
  if (length > longestOverrides) {
    throw invalid(`Container Overrides length must be at most ${longestOverrides}`);
  }
  const containers = definition.containerDefinitions ?? [];
  for (const { name = "" } of overrides.containerOverrides ?? []) {
    if (!containers.some((each) => each.name === name)) {
      throw invalid(`Override for container named ${name} is not a container in the TaskDefinition.`);
    }
  }
  const cpu = overrides.cpu ?? definition.cpu ?? "";
  const memory = overrides.memory ?? definition.memory ?? "";
  const mib = memoryMib(memory) ?? 0;
  if (!isFargateSize(cpuUnits(cpu) ?? 0, mib)) {
    throw invalid(
      `No Fargate configuration exists for given values: ${cpu} CPU, ${memory} memory. See the Amazon ECS documentation for the valid values.`,
    );
  }
  const asked = containers.map(({ name, memory: own }) => {
    const override = overrides.containerOverrides?.find((each) => each.name === name);
    return override?.memory ?? own ?? 0;
  });
  if (asked.some((each) => each > mib)) {
    throw invalid("The memory of a container must not be more than the task's.");
  }
  const gib = overrides.ephemeralStorage?.sizeInGiB;
  if (gib !== undefined && (gib < 21 || gib > 200)) {
    throw invalid("Ephemeral storage size must be between 21 and 200 GiB.");
  }
}

/** The subnets and groups that a request wants for its tasks; the VPC's default group if it names none. */
export function placementOf({ networkConfiguration }: Request, network: VpcNetwork): Placement {
  const vpc = networkConfiguration?.awsvpcConfiguration;
  if (vpc === undefined) {
    throw invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.");
  }
  const { subnets = [], securityGroups = [] } = vpc;
  if (subnets.length === 0) {
    throw invalid("subnets can not be empty.");
  }
  if (subnets.length > 16) {
    throw invalid("subnets can have at most 16 items.");
  }
  if (securityGroups.length > 5) {
    throw invalid("securityGroups can have at most 5 items.");
  }
  const noSubnet = subnets.find((subnetId) => network.subnet(subnetId) === undefined);
  if (noSubnet !== undefined) {
    throw invalid(
      `Error retrieving subnet information for [${noSubnet}]: The subnet ID '${noSubnet}' does not exist (ErrorCode: InvalidSubnetID.NotFound)`,
    );
  }
  const noGroup = securityGroups.find((groupId) => !network.hasGroup(groupId));
  if (noGroup !== undefined) {
    throw invalid(
      `Error retrieving security group information for [${noGroup}]: The security group '${noGroup}' does not exist (ErrorCode: InvalidGroup.NotFound)`,
    );
  }
  return {
    subnetIds: subnets,
    groupIds: securityGroups.length > 0 ? securityGroups : [network.defaultGroupId],
  };
}

/** The capacity providers that a request's tasks get, one after the other by weight; undefined for one without. */
export function capacityProviders(
  request: Request,
  clusterStrategy: readonly { readonly capacityProvider: string; readonly weight: number }[],
): readonly (string | undefined)[] {
  const count = request.count ?? 1;
  const asked = request.capacityProviderStrategy ?? [];
  if (request.launchType !== undefined || (asked.length === 0 && clusterStrategy.length === 0)) {
    if (request.launchType !== "FARGATE") {
      throw invalid("No Container Instances were found in your cluster.");
    }
    return Array.from({ length: count }, () => undefined);
  }
  const strategy: readonly {
    readonly capacityProvider?: string;
    readonly weight?: number;
    readonly base?: number;
  }[] = asked.length > 0 ? asked : clusterStrategy;
  const unknown = strategy.find(
    ({ capacityProvider = "" }) => !["FARGATE", "FARGATE_SPOT"].includes(capacityProvider),
  );
  if (unknown !== undefined) {
    throw invalid(`The specified capacity provider '${unknown.capacityProvider ?? ""}' was not found.`);
  }
  const weights = strategy.map(({ capacityProvider = "", weight, base = 0 }) => ({
    capacityProvider,
    weight: weight ?? (strategy.length === 1 ? 1 : 0),
    base,
  }));
  const total = weights.reduce((sum, { weight }) => sum + weight, 0);
  const chosen = weights.flatMap(({ capacityProvider, base }) =>
    Array.from({ length: base }, () => capacityProvider),
  );
  if (total === 0 && chosen.length < count) {
    throw invalid("At least one capacity provider of the strategy must have a weight of more than 0.");
  }
  const given = new Map<string, number>();
  while (chosen.length < count) {
    // The provider that is furthest behind its share is next.
    const next = weights.reduce((one, other) => {
      const share = (each: typeof one): number => ((given.get(each.capacityProvider) ?? 0) + 1) / each.weight;
      return share(other) < share(one) ? other : one;
    });
    given.set(next.capacityProvider, (given.get(next.capacityProvider) ?? 0) + 1);
    chosen.push(next.capacityProvider);
  }
  return chosen.slice(0, count);
}

/** @returns `InvalidParameterException` */
export function invalid(message: string): AwsFault {
  return new AwsFault("InvalidParameterException", message);
}
