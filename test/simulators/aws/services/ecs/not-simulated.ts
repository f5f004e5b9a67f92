/** Refusals, by name and with 501, of what sockerless does not send: the simulator does nothing by it. */
import type { RegisterTaskDefinitionCommandInput, RunTaskCommandInput } from "@aws-sdk/client-ecs";
import { AwsFault, type Given } from "../../wire/service.ts";

/** @throws AwsFault 501 for a definition that the simulator cannot run as Fargate does */
export function refuseNotSimulatedDefinition(definition: Given<RegisterTaskDefinitionCommandInput>): void {
  const { containerDefinitions = [], volumes = [], runtimePlatform = {} } = definition;
  refuseOthers(
    "family networkMode requiresCompatibilities runtimePlatform cpu memory executionRoleArn taskRoleArn tags " +
      "volumes containerDefinitions",
    definition,
  );
  if (![undefined, hostArchitecture].includes(runtimePlatform.cpuArchitecture)) {
    throw notSimulated("cpuArchitecture");
  }
  for (const volume of volumes) {
    refuseOthers("name efsVolumeConfiguration", volume);
    refuseOthers(
      "fileSystemId rootDirectory transitEncryption authorizationConfig",
      volume.efsVolumeConfiguration ?? {},
    );
  }
  for (const container of containerDefinitions) {
    refuseOthers(
      "name image essential user entryPoint command environment mountPoints dependsOn stopTimeout ulimits " +
        "systemControls linuxParameters readonlyRootFilesystem logConfiguration repositoryCredentials",
      container,
    );
    refuseOthers("capabilities tmpfs", container.linuxParameters ?? {});
    refuseOthers("add", container.linuxParameters?.capabilities ?? {});
    if (container.dependsOn?.some(({ condition }) => condition !== "SUCCESS") === true) {
      throw notSimulated("dependsOn.condition");
    }
  }
}

/** @throws AwsFault 501 for a request that the simulator cannot carry out as ECS does */
export function refuseNotSimulatedRun(request: Given<RunTaskCommandInput>): void {
  const { overrides = {}, count = 1 } = request;
  refuseOthers(
    "cluster taskDefinition count launchType capacityProviderStrategy platformVersion networkConfiguration " +
      "startedBy clientToken overrides tags",
    request,
  );
  refuseOthers("cpu memory taskRoleArn executionRoleArn ephemeralStorage containerOverrides", overrides);
  for (const override of overrides.containerOverrides ?? []) {
    refuseOthers("name command environment", override);
  }
  if (count !== 1) {
    throw notSimulated("count");
  }
}

const hostArchitecture = process.arch === "arm64" ? "ARM64" : "X86_64";

/** A member that is false or an empty list is as one that is absent. */
function refuseOthers(simulated: string, given: object): void {
  for (const [name, value] of Object.entries(given) as [string, unknown][]) {
    const isSet = value !== false && !(Array.isArray(value) && value.length === 0);
    if (isSet && !simulated.split(" ").includes(name)) {
      throw notSimulated(name);
    }
  }
}

/** The refusal of a member that the simulator does nothing by. */
export function notSimulated(name: string): AwsFault {
  return new AwsFault("ClientException", `${name} is not simulated`, 501);
}
