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
  const { clientToken, startedBy = "", overrides = {} } = request;
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
  if (!isFargateSize(cpuUnits(cpu) ?? 0, memoryMib(memory) ?? 0)) {
    throw invalid(
      `No Fargate configuration exists for given values: ${cpu} CPU, ${memory} memory. See the Amazon ECS documentation for the valid values.`,
    );
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

/** The capacity provider of a request's task; undefined for one by its launch type. */
export function capacityProviderOf({
  launchType,
  capacityProviderStrategy: [strategy] = [],
}: Request): string | undefined {
  if (launchType === "FARGATE") {
    return undefined;
  }
  if (strategy === undefined) {
    throw invalid("No Container Instances were found in your cluster.");
  }
  const { capacityProvider = "" } = strategy;
  if (!["FARGATE", "FARGATE_SPOT"].includes(capacityProvider)) {
    throw invalid(`The specified capacity provider '${capacityProvider}' was not found.`);
  }
  return capacityProvider;
}

/** @returns `InvalidParameterException` */
export function invalid(message: string): AwsFault {
  return new AwsFault("InvalidParameterException", message);
}
