/** Limits that are not rates, and how long things take. Both are the test's to change, at any time. */

/** The account's quotas, at AWS's published defaults. */
export interface Quotas {
  /** vCPUs of running on-demand Fargate tasks (L-3032A538). */
  fargateVcpus: number;
  /** vCPUs of running Fargate Spot tasks. */
  fargateSpotVcpus: number;
  networkInterfaces: number;
  securityGroupsPerInterface: number;
  securityGroupsPerVpc: number;
  /** Inbound and outbound counted apart. */
  rulesPerSecurityGroup: number;
  accessPointsPerFileSystem: number;
  /** Cloud Map namespaces. */
}

/** AWS's published defaults. */
export function defaultQuotas(): Quotas {
  return {
    fargateVcpus: 6,
    fargateSpotVcpus: 6,
    networkInterfaces: 5000,
    securityGroupsPerInterface: 5,
    securityGroupsPerVpc: 2500,
    rulesPerSecurityGroup: 60,
    accessPointsPerFileSystem: 10_000,
  };
}

/** How long the cloud takes, in simulated milliseconds. */
export interface Delays {
  /** PROVISIONING: until the task has its interface. */
  provisioning: number;
  /** PENDING: until the platform has room. */
  pending: number;
  /** Added to what the pull of an image really takes. */
  pull: number;
  /** ACTIVATING, after the containers have begun to run. */
  activating: number;
  /** DEACTIVATING, STOPPING and DEPROVISIONING together, after the last container has ended. */
  stopping: number;
  /** A namespace or another asynchronous operation of Cloud Map. */
  cloudMapOperation: number;
  /** An access point in the state `creating`. */
  accessPoint: number;
  /** From the arrival of a log event until it can be read. */
  logIngestion: number;
}

/** No delays. */
export function noDelays(): Delays {
  return {
    provisioning: 0,
    pending: 0,
    pull: 0,
    activating: 0,
    stopping: 0,
    cloudMapOperation: 0,
    accessPoint: 0,
    logIngestion: 0,
  };
}
