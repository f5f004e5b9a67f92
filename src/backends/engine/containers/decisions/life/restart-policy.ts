/** Whether and when a restart policy starts a container again. Pure. */
import type { RestartPolicy } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";

const shortestDelayMs = 100;
const longestDelayMs = 60_000;
/** A container that ran this long is not in a loop of crashes. */
const settledMs = 10_000;

/** An exit as a restart policy sees it. */
export interface PolicyExit {
  readonly code: number;
  /** A user has ended it: stopped, killed, restarted or removed it. */
  readonly stoppedByUser: boolean;
  /** A user has sent it a signal, whether that was to end it or not. */
  readonly signalledByUser?: boolean;
  /** How often the policy has restarted the container since a user started it. */
  readonly restartCount: number;
}

/** Whether the container is started again. */
export function restarts(policy: RestartPolicy | undefined, exit: PolicyExit): boolean {
  if (policy === undefined || exit.stoppedByUser) {
    return false;
  }
  switch (policy.name) {
    case "always":
      return true;
    case "unless-stopped":
      return exit.signalledByUser !== true;
    case "on-failure":
      return (
        exit.code !== 0 && (policy.maximumRetryCount === 0 || exit.restartCount < policy.maximumRetryCount)
      );
    default:
      return false;
  }
}

/**
 * Whether a container that does not run is started when the backend is. As in Docker, one that a user has stopped is, by
 * the policy `always`: nobody remembers then that it was to stay stopped.
 */
export function restartsAtBoot(
  policy: RestartPolicy | undefined,
  exit: Omit<PolicyExit, "stoppedByUser">,
): boolean {
  return restarts(policy, { ...exit, stoppedByUser: false });
}

/** How long the next restart waits: doubled from crash to crash, up to a minute. */
export function nextRestartDelay(previousMs: number, ranMs: number): number {
  return previousMs === 0 || ranMs >= settledMs ? shortestDelayMs : Math.min(previousMs * 2, longestDelayMs);
}
