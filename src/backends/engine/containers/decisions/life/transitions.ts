/** State transitions of a container's record. Pure: records in, records out. */
import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { shortened } from "../../../../../common/connect-error.ts";
import {
  ContainerStatus,
  HealthSchema,
  HealthStatus,
  type NetworkEndpoint,
} from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched } from "../../../../driver/launches.ts";
import type { FoundWorkload } from "../../../../driver/workloads.ts";
import { disconnectedEndpoints, placedEndpoints } from "../../../../model/endpoints.ts";
import { portMappings } from "../../../../model/ports.ts";
import { configOf, hostConfigOf, stateOf, withFields, withState } from "../../../../model/records.ts";
import { hasHealthcheck, unwatchedHealth } from "./health.ts";

/** The end of a main process. */
export interface Exit {
  readonly code: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Timestamp;
  /** The reason if the process did not simply exit; empty if it did. */
  readonly error: string;
}

/** Begins a start: the next generation, journalled before anything is launched. */
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

/**
 * Counts a later start than the state knew, as after the restore of a backup, as the last one: a user's signal that the state has
 * was for an earlier one, and so was a restart under way.
 */
export function startedSince(
  record: ContainerRecord,
  { generation, address }: Pick<FoundWorkload, "generation" | "address">,
): ContainerRecord {
  const place =
    address === undefined
      ? {}
      : { reachableAddress: address, endpoints: placedEndpoints(record.endpoints, address) };
  return withFields(record, { generation, stoppedByUser: false, restartToken: "", ...place });
}

/** Records that the main process runs. */
export function running(
  record: ContainerRecord,
  started: { readonly pid: bigint; readonly startedAt: Timestamp },
  launched: Pick<Launched, "boundPorts" | "reference" | "networkNamespace">,
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
      health: hasHealthcheck(config.healthcheck)
        ? create(HealthSchema, { status: HealthStatus.STARTING, log: stateOf(record).health?.log ?? [] })
        : undefined,
    },
  );
}

/** Pauses the container. */
export function paused(record: ContainerRecord): ContainerRecord {
  return withState(record, {
    status: ContainerStatus.PAUSED,
    health: unwatchedHealth(stateOf(record).health),
  });
}

/** Unpauses the container. The next successful health check makes it healthy again. */
export function resumed(record: ContainerRecord): ContainerRecord {
  return withState(withFields(record, { frozenGeneration: 0n }), { status: ContainerStatus.RUNNING });
}

/** Records that it is about to be paused: by a user, until a user unpauses it, or for the duration of a commit. */
export function frozenBy(record: ContainerRecord, by: "user" | "commit"): ContainerRecord {
  return withFields(record, { frozenGeneration: by === "commit" ? record.generation : 0n });
}

/** Whether a commit has paused this run of the container, or was about to. */
export function isFrozenByCommit(record: ContainerRecord): boolean {
  return record.frozenGeneration !== 0n && record.frozenGeneration === record.generation;
}

/** Fields of a failed start, cleared so that a repeated call starts anew. */
const notStarted = { startToken: "", startAwaited: false, restartToken: "" } as const;

/** Records a failed start: the previous state, with the reason, shortened, and an exit code. */
export function startFailed(record: ContainerRecord, exitCode: number, error: string): ContainerRecord {
  const { startedAt } = stateOf(record);
  return withState(withFields(withoutRun(record), notStarted), {
    status: startedAt === undefined ? ContainerStatus.CREATED : ContainerStatus.EXITED,
    pid: 0n,
    exitCode,
    error: shortened(error),
  });
}

/**
 * Records a start that could not be made, which is not the container's failure: the previous state, with the reason,
 * shortened.
 */
export function startNotMade(record: ContainerRecord, error: string): ContainerRecord {
  return withState(withFields(withoutRun(record), notStarted), { error: shortened(error) });
}

/** Records the end of the main process. @param restarting whether the restart policy restarts it */
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

/** Records a removal; remains are cleared away in the background. */
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
