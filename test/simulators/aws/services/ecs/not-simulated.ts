/** Refusals, by name and with 501, of features that Fargate has and the simulator has not. */
import type { RegisterTaskDefinitionCommandInput, RunTaskCommandInput } from "@aws-sdk/client-ecs";
import { AwsFault, type Given } from "../../wire/service.ts";

/** @throws AwsFault 501 for a definition that the simulator cannot run as Fargate does */
export function refuseNotSimulatedDefinition(definition: Given<RegisterTaskDefinitionCommandInput>): void {
  const { proxyConfiguration, enableFaultInjection, runtimePlatform, volumes = [] } = definition;
  refusePresent({
    proxyConfiguration,
    enableFaultInjection: enableFaultInjection === true ? true : undefined,
    trustedExecutionConfiguration: "trustedExecutionConfiguration" in definition ? true : undefined,
    "runtimePlatform.cpuArchitecture":
      runtimePlatform?.cpuArchitecture === hostArchitecture ? undefined : runtimePlatform?.cpuArchitecture,
    "volumes.configuredAtLaunch": volumes.find((volume) => volume.configuredAtLaunch === true),
    "volumes.s3filesVolumeConfiguration": volumes.find(
      (volume) => volume.s3filesVolumeConfiguration !== undefined,
    ),
  });
  for (const container of definition.containerDefinitions ?? []) {
    const driver = container.logConfiguration?.logDriver;
    refusePresent({
      environmentFiles: container.environmentFiles,
      firelensConfiguration: container.firelensConfiguration,
      interactive: container.interactive === true ? true : undefined,
      pseudoTerminal: container.pseudoTerminal === true ? true : undefined,
      restartPolicy: container.restartPolicy?.enabled === true ? true : undefined,
      volumesFrom: container.volumesFrom,
      "logConfiguration.logDriver": driver === "awslogs" ? undefined : driver,
      "awslogs-datetime-format": container.logConfiguration?.options?.["awslogs-datetime-format"],
      "awslogs-multiline-pattern": container.logConfiguration?.options?.["awslogs-multiline-pattern"],
    });
  }
}

/** @throws AwsFault 501 for a request that the simulator cannot carry out as ECS does */
export function refuseNotSimulatedRun({ volumeConfigurations, overrides }: Given<RunTaskCommandInput>): void {
  refusePresent({
    volumeConfigurations,
    "overrides.containerOverrides.environmentFiles": overrides?.containerOverrides?.find(
      ({ environmentFiles = [] }) => environmentFiles.length > 0,
    ),
  });
}

const hostArchitecture = process.arch === "arm64" ? "ARM64" : "X86_64";

function refusePresent(values: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && !(Array.isArray(value) && value.length === 0)) {
      throw new AwsFault("ClientException", `${name} is not simulated`, 501);
    }
  }
}
