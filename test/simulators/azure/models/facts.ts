/**
 * Constraints that the published specification of Microsoft.App (2025-07-01) has and the SDK's mappers leave out. All of
 * its enumerations are extensible for a client (`modelAsString`); the service takes none but its own values.
 */

/** Values of properties, by class and property. */
export const enumerations: Readonly<Record<string, readonly string[]>> = {
  "JobConfiguration.triggerType": ["Schedule", "Event", "Manual"],
  "Volume.storageType": ["AzureFile", "EmptyDir", "Secret", "NfsAzureFile"],
  "AzureFileProperties.accessMode": ["ReadOnly", "ReadWrite"],
  "NfsAzureFileProperties.accessMode": ["ReadOnly", "ReadWrite"],
  "IdentitySettings.lifecycle": ["Init", "Main", "None", "All"],
  "ContainerAppProbe.type": ["Liveness", "Readiness", "Startup"],
  "ContainerAppProbeHttpGet.scheme": ["HTTP", "HTTPS"],
  "ManagedServiceIdentity.type": ["None", "SystemAssigned", "UserAssigned", "SystemAssigned,UserAssigned"],
};

/** Numbers that need not be whole; all others are int32. */
export const fractions: ReadonlySet<string> = new Set(["ContainerResources.cpu"]);

/** Properties of every resource that the service alone writes, though no mapper says so. */
export const written: ReadonlySet<string> = new Set([
  "Job.systemData",
  "ManagedEnvironmentStorage.systemData",
]);
