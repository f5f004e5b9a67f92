/** Derives a container's health from the results of its health check. Pure. */
import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import type {
  HealthCheck as AgentHealthCheck,
  HealthResult,
} from "../../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { HealthCheckSchema } from "../../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerConfig, HealthConfig } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type Health,
  HealthLogEntrySchema,
  HealthSchema,
  HealthStatus,
} from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import { nanosecondsOf } from "../../../../model/records.ts";

const second = 1_000_000_000n;
/** Results that an agent and a record keep. */
export const keptResults = 5;
const longestOutput = 4096;

/** Whether a configuration enables checks; it can also disable them. */
export function hasHealthcheck(config: HealthConfig | undefined): config is HealthConfig {
  return config !== undefined && config.test.length > 0 && config.test[0] !== "NONE";
}

/** The check as the agent runs it, with the host configuration's groups; undefined if there is none. */
export function agentHealthCheck(
  config: ContainerConfig,
  additionalGroups: readonly string[] = [],
): AgentHealthCheck | undefined {
  const check = config.healthcheck;
  if (!hasHealthcheck(check)) {
    return undefined;
  }
  const [kind, ...words] = check.test;
  const shell = config.shell?.values.length ? config.shell.values : ["/bin/sh", "-c"];
  return create(HealthCheckSchema, {
    args: kind === "CMD-SHELL" ? [...shell, ...words] : words,
    intervalNs: orDefault(check.interval, 30n * second),
    timeoutNs: orDefault(check.timeout, 30n * second),
    startPeriodNs: orDefault(check.startPeriod, 0n),
    startIntervalNs: orDefault(check.startInterval, 5n * second),
    user: config.user,
    additionalGroups: [...additionalGroups],
  });
}

/** The health after one more result. */
export function healthAfter(
  health: Health | undefined,
  config: HealthConfig,
  startedAt: Timestamp | undefined,
  result: HealthResult,
): Health {
  const before = health ?? create(HealthSchema, { status: HealthStatus.STARTING });
  const entry = create(HealthLogEntrySchema, {
    ...(result.start === undefined ? {} : { start: result.start }),
    ...(result.end === undefined ? {} : { end: result.end }),
    exitCode: result.exitCode,
    output: new TextDecoder().decode(result.output.subarray(0, longestOutput)),
  });
  const log = [...before.log, entry].slice(-keptResults);
  if (result.exitCode === 0) {
    return create(HealthSchema, { status: HealthStatus.HEALTHY, failingStreak: 0, log });
  }
  if (before.status === HealthStatus.STARTING && isInStartPeriod(config, startedAt, result)) {
    return create(HealthSchema, { status: before.status, failingStreak: before.failingStreak, log });
  }
  const failingStreak = before.failingStreak + 1;
  const retries = config.retries > 0 ? config.retries : 3;
  return create(HealthSchema, {
    status: failingStreak >= retries ? HealthStatus.UNHEALTHY : before.status,
    failingStreak,
    log,
  });
}

/** The health of a container whose check does not run now: unhealthy, as in Docker. */
export function unwatchedHealth(health: Health | undefined): Health | undefined {
  return health === undefined ? undefined : { ...health, status: HealthStatus.UNHEALTHY };
}

/** A health status in Docker's words. */
export function healthName(status: HealthStatus | undefined): string {
  switch (status) {
    case HealthStatus.STARTING:
      return "starting";
    case HealthStatus.HEALTHY:
      return "healthy";
    case HealthStatus.UNHEALTHY:
      return "unhealthy";
    default:
      return "none";
  }
}

function isInStartPeriod(
  config: HealthConfig,
  startedAt: Timestamp | undefined,
  { start }: HealthResult,
): boolean {
  return (
    start !== undefined &&
    startedAt !== undefined &&
    nanosecondsOf(start) - nanosecondsOf(startedAt) < config.startPeriod
  );
}

function orDefault(value: bigint, fallback: bigint): bigint {
  return value === 0n ? fallback : value;
}
