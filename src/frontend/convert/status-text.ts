/** The `Status` of a container in a list: "Up 5 minutes (healthy)". */
import {
  type ContainerState,
  ContainerStatus,
  HealthStatus,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { milliseconds } from "./json-values.ts";

/**
 * The text that dockerd shows for a state.
 *
 * @param nowMs milliseconds since the epoch
 */
export function statusText(state: ContainerState, nowMs: number): string {
  return state.waitsFor === ""
    ? settledText(state, nowMs)
    : `${settledText(state, nowMs)} (waits: ${shortened(state.waitsFor)})`;
}

/** Maximum length of a reason within a table. */
const longestReason = 60;

function shortened(text: string): string {
  return text.length <= longestReason ? text : `${text.slice(0, longestReason - 1)}…`;
}

function settledText(state: ContainerState, nowMs: number): string {
  const since = (time: ContainerState["startedAt"]): string =>
    humanDuration(time === undefined ? 0 : nowMs - milliseconds(time));
  switch (state.status) {
    case ContainerStatus.RUNNING:
      return `Up ${since(state.startedAt)}${healthText(state)}`;
    case ContainerStatus.PAUSED:
      return `Up ${since(state.startedAt)} (Paused)`;
    case ContainerStatus.RESTARTING:
      return `Restarting (${state.exitCode}) ${since(state.finishedAt)} ago`;
    case ContainerStatus.REMOVING:
      return "Removal In Progress";
    case ContainerStatus.DEAD:
      return "Dead";
    case ContainerStatus.EXITED:
      return state.finishedAt === undefined
        ? ""
        : `Exited (${state.exitCode}) ${since(state.finishedAt)} ago`;
    case ContainerStatus.CREATED:
    case ContainerStatus.UNSPECIFIED:
      return "Created";
  }
}

/** `Health.Status` of an inspect. */
export function healthName(status: HealthStatus): string {
  return status === HealthStatus.UNSPECIFIED ? "none" : HealthStatus[status].toLowerCase();
}

/** A duration in dockerd's words. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000);
  if (seconds < 1) {
    return "Less than a second";
  }
  if (seconds < 60) {
    return seconds === 1 ? "1 second" : `${seconds} seconds`;
  }
  const minutes = Math.trunc(seconds / 60);
  if (minutes < 60) {
    return minutes === 1 ? "About a minute" : `${minutes} minutes`;
  }
  // Rounded, while the units above and below are truncated.
  const hours = Math.trunc(ms / 3_600_000 + 0.5);
  if (hours < 48) {
    return hours === 1 ? "About an hour" : `${hours} hours`;
  }
  if (hours < 24 * 7 * 2) {
    return `${Math.trunc(hours / 24)} days`;
  }
  if (hours < 24 * 30 * 2) {
    return `${Math.trunc(hours / 24 / 7)} weeks`;
  }
  if (hours < 24 * 365 * 2) {
    return `${Math.trunc(hours / 24 / 30)} months`;
  }
  return `${Math.trunc(ms / 3_600_000 / 24 / 365)} years`;
}

function healthText({ health }: ContainerState): string {
  if (health === undefined) {
    return "";
  }
  const name = healthName(health.status);
  return health.status === HealthStatus.STARTING ? ` (health: ${name})` : ` (${name})`;
}
