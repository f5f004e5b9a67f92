/** Whether and when a restart policy restarts a container. Pure. */
import type { RestartPolicy } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";

const shortestDelayMs = 100;
const longestDelayMs = 60_000;
/** A container that ran this long is not in a crash loop. */
const settledMs = 10_000;

/** An exit, as input of a restart policy. */
export interface PolicyExit {
  readonly code: number;
  /** True if a user has stopped, killed, restarted or removed it. */
  readonly stoppedByUser: boolean;
  /** True if a user has sent it any signal. */
  readonly signalledByUser?: boolean;
  /** Number of restarts by the policy since a user started the container. */
  readonly restartCount: number;
}

/** Whether the policy restarts the container. */
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
 * Whether a stopped container is started when the backend starts. As in Docker, the policy `always` also restarts one
 * that a user has stopped.
 */
export function restartsAtBoot(
  policy: RestartPolicy | undefined,
  exit: Omit<PolicyExit, "stoppedByUser">,
): boolean {
  return restarts(policy, { ...exit, stoppedByUser: false });
}

/** Delay of the next restart: doubles with each crash, up to a minute. */
export function nextRestartDelay(previousMs: number, ranMs: number): number {
  return previousMs === 0 || ranMs >= settledMs ? shortestDelayMs : Math.min(previousMs * 2, longestDelayMs);
}
