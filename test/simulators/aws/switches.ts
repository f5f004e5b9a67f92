/** Beliefs about the cloud that no service model backs. Each is tested in both positions; README.md lists them. */

/** For how many simulated milliseconds other calls do not see yet what a service has made. */
export interface ConsistencyDelays {
  /** Tasks. */
  ecs: number;
  /** Security groups. */
  ec2: number;
  /** Access points, in lists. */
  efs: number;
  /** Services of Cloud Map, in lists. */
  servicediscovery: number;
}

/** The same delay for all services. */
export function allLag(ms: number): ConsistencyDelays {
  return { ecs: ms, ec2: ms, efs: ms, servicediscovery: ms };
}

/** The beliefs; all of them can be changed at any time. */
export interface Switches {
  eventualConsistencyMs: ConsistencyDelays;
  /** Cloud Map writes to Route 53 with its caller's rights, so that registering needs them. */
  cloudMapNeedsRoute53Rights: boolean;
  /** `GetLogEvents` refuses a forward token where `startFromHead` is not true. */
  forwardTokensNeedStartFromHead: boolean;
  /** `GetLogEvents` answers an empty page with a new token before each page that has events. */
  emptyLogPages: boolean;
  /** Layers are fetched by a redirection to a storage service, which refuses the registry's credentials. */
  layersAreElsewhere: boolean;
  /** No owner is changed through an access point that forces a user, not even where that user is root. */
  accessPointsRefuseChown: boolean;
  /** RunTask answers a vCPU quota that is used up in `failures`; else by a `ClientException`. */
  vcpuQuotaIsFailure: boolean;
}

/** The position of each switch that is believed to be AWS's. */
export function defaultSwitches(): Switches {
  return {
    eventualConsistencyMs: allLag(0),
    cloudMapNeedsRoute53Rights: true,
    forwardTokensNeedStartFromHead: true,
    emptyLogPages: false,
    layersAreElsewhere: true,
    accessPointsRefuseChown: true,
    vcpuQuotaIsFailure: true,
  };
}
