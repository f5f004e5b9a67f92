/** Beliefs about the cloud that no service model backs. Each is tested in both positions; README.md lists them. */

/** The beliefs; all of them can be changed at any time. */
export interface Switches {
  /** New tasks and security groups are unknown to other calls for this many simulated milliseconds. */
  eventualConsistencyMs: number;
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

/** What is believed. */
export function defaultSwitches(): Switches {
  return {
    eventualConsistencyMs: 0,
    cloudMapNeedsRoute53Rights: true,
    forwardTokensNeedStartFromHead: true,
    emptyLogPages: false,
    layersAreElsewhere: true,
    accessPointsRefuseChown: true,
    vcpuQuotaIsFailure: true,
  };
}
