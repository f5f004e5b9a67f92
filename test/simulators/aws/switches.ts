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
}

/** The position of each switch that is believed to be AWS's. */
export function defaultSwitches(): Switches {
  return {
    eventualConsistencyMs: allLag(0),
  };
}
