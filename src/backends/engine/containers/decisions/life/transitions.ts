/** How a container's record follows from what happened. Pure: records in, records out. */
import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import {
  ContainerStatus,
  HealthSchema,
  HealthStatus,
  type NetworkEndpoint,
} from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched } from "../../../../driver/launches.ts";
import { disconnectedEndpoints } from "../../../../model/endpoints.ts";
import { portMappings } from "../../../../model/ports.ts";
import { configOf, hostConfigOf, stateOf, withFields, withState } from "../../../../model/records.ts";
import { hasHealthcheck, unwatchedHealth } from "./health.ts";

/** The end of a main process. */
export interface Exit {
  readonly code: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Timestamp;
  /** Why the end is known otherwise than by the process's own exit; empty: it exited. */
  readonly error: string;
}

/** A start begins: the next generation, journalled before anything is launched. */
export function starting(
  record: ContainerRecord,
  endpoints: Record<string, NetworkEndpoint>,
): ContainerRecord {
  return withFields(record, {
    generation: record.generation + 1n,
    phase: Phase.STARTING,
    endpoints,
    stoppedByUser: false,
  });
}

/** The main process runs. @param checksHealth whether this backend runs health checks: a check that is not run has no state */
export function running(
  record: ContainerRecord,
  started: { readonly pid: bigint; readonly startedAt: Timestamp },
  launched: Pick<Launched, "boundPorts" | "reference" | "networkNamespace">,
  checksHealth: boolean,
): ContainerRecord {
  const config = configOf(record);
  const { finishedAt } = stateOf(record);
  return withState(
    withFields(record, {
      phase: Phase.UNSPECIFIED,
      startAwaited: false,
      boundPorts: portMappings(launched.boundPorts, config.exposedPorts, hostConfigOf(record).portBindings),
      driverReference: launched.reference,
      networkNamespace: launched.networkNamespace ?? "",
    }),
    {
      status: ContainerStatus.RUNNING,
      pid: started.pid,
      startedAt: started.startedAt,
      ...(finishedAt === undefined ? {} : { finishedAt }),
      exitCode: 0,
      error: "",
      oomKilled: false,
      health:
        checksHealth && hasHealthcheck(config.healthcheck)
          ? create(HealthSchema, { status: HealthStatus.STARTING, log: stateOf(record).health?.log ?? [] })
          : undefined,
    },
  );
}

/** Every process of the container is frozen. */
export function paused(record: ContainerRecord): ContainerRecord {
  return withState(record, {
    status: ContainerStatus.PAUSED,
    health: unwatchedHealth(stateOf(record).health),
  });
}

/** The processes go on. The next good result of its check makes the container healthy again. */
export function resumed(record: ContainerRecord): ContainerRecord {
  return withState(withFields(record, { frozenGeneration: 0n }), { status: ContainerStatus.RUNNING });
}

/** It is about to be paused: by a user, until a user says otherwise, or by a commit, while that lasts. */
export function frozenBy(record: ContainerRecord, by: "user" | "commit"): ContainerRecord {
  return withFields(record, { frozenGeneration: by === "commit" ? record.generation : 0n });
}

/** Whether a commit has frozen this run of the container, or was about to. */
export function isFrozenByCommit(record: ContainerRecord): boolean {
  return record.frozenGeneration !== 0n && record.frozenGeneration === record.generation;
}

/** Marks of a start that has not worked: a call that repeats it makes it anew. */
const notStarted = { startToken: "", startAwaited: false } as const;

/** The start failed: the container is what it was, with the reason and an exit code. */
export function startFailed(record: ContainerRecord, exitCode: number, error: string): ContainerRecord {
  const { startedAt } = stateOf(record);
  return withState(withFields(withoutRun(record), notStarted), {
    status: startedAt === undefined ? ContainerStatus.CREATED : ContainerStatus.EXITED,
    pid: 0n,
    exitCode,
    error,
  });
}

/** The start could not be made, which is no failure of the container: it is what it was, with the reason. */
export function startNotMade(record: ContainerRecord, error: string): ContainerRecord {
  return withState(withFields(withoutRun(record), notStarted), { error });
}

/** The main process ended. @param restarting whether the restart policy starts it again */
export function exited(record: ContainerRecord, exit: Exit, restarting: boolean): ContainerRecord {
  const next = withState(withoutRun(record), {
    status: restarting ? ContainerStatus.RESTARTING : ContainerStatus.EXITED,
    pid: 0n,
    exitCode: exit.code,
    error: exit.error,
    finishedAt: exit.finishedAt,
    oomKilled: stateOf(record).oomKilled || exit.oomKilled,
    health: unwatchedHealth(stateOf(record).health),
  });
  return restarting ? withFields(next, { restartCount: record.restartCount + 1 }) : next;
}

/** The removal is answered; what remains goes behind the answer. */
export function removed(record: ContainerRecord): ContainerRecord {
  return withState(withFields(record, { phase: Phase.REMOVING }), { status: ContainerStatus.REMOVING });
}

function withoutRun(record: ContainerRecord): ContainerRecord {
  return withFields(record, {
    phase: Phase.UNSPECIFIED,
    endpoints: disconnectedEndpoints(record.endpoints),
    boundPorts: [],
    networkNamespace: "",
    reachableAddress: "",
  });
}
