/** Metrics of single containers, read from their agents like those of `docker stats`. */
import { Counter, Gauge, type Registry } from "prom-client";

import type { Logger } from "../common/logger.ts";
import { ContainerStatus } from "../gen/sockerless/backend/v1/container_pb.ts";
import type { StatsResponse } from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { BackendClients } from "./backend/clients.ts";
import type { AgentTargets } from "./streams/agent-targets.ts";

/** Maximum containers read per scrape; the others are only counted. */
const maxContainers = 500;
/** Agents queried at a time. */
const concurrency = 16;
/** Time limit for all agents together: Prometheus allows a scrape 10 s. */
const limitMs = 4_000;
const nanosecond = 1e-9;

/** Parts of the frontend that find and reach agents. */
export interface AgentServices {
  readonly backend: Pick<BackendClients, "containers">;
  readonly agents: Pick<AgentTargets, "access" | "clientOf">;
  readonly logger: Logger;
}

interface Reading {
  readonly id: string;
  readonly name: string;
  readonly stats: StatsResponse;
}

/**
 * Registers the metrics of containers.
 *
 * @returns updates all of them; never fails
 */
export function measureContainers(ways: AgentServices, registers: Registry[]): () => Promise<void> {
  const meters = metersIn(registers);
  const unread = new Gauge({
    name: "sockerless_container_unread",
    help: "Running containers of which this scrape has no figures: their agents were late, or there are too many.",
    registers,
  });
  return async () => {
    const { readings, missing } = await readAll(ways);
    unread.set(missing);
    for (const { meter, figureOf } of meters) {
      meter.reset();
      for (const { id, name, stats } of readings) {
        meter.inc({ id, name }, figureOf(stats));
      }
    }
  };
}

function metersIn(registers: Registry[]) {
  const labels = { labelNames: ["id", "name"] as const, registers };
  const counter = (name: string, help: string, figureOf: (stats: StatsResponse) => number) => ({
    meter: new Counter({ name: `sockerless_container_${name}`, help, ...labels }),
    figureOf,
  });
  const gauge = (name: string, help: string, figureOf: (stats: StatsResponse) => number) => ({
    meter: new Gauge({ name: `sockerless_container_${name}`, help, ...labels }),
    figureOf,
  });
  return [
    counter(
      "cpu_seconds_total",
      "Processor time that a container has used.",
      ({ cpu }) => Number(cpu?.totalUsageNs ?? 0n) * nanosecond,
    ),
    counter(
      "cpu_throttled_seconds_total",
      "Time for which a container's processes waited because its share of processors was used up.",
      ({ cpu }) => Number(cpu?.throttledNs ?? 0n) * nanosecond,
    ),
    gauge("memory_bytes", "Memory of a container, caches of files included.", ({ memory }) =>
      Number(memory?.usage ?? 0n),
    ),
    gauge(
      "memory_limit_bytes",
      "Memory that a container may use; the machine's where it has no limit.",
      ({ memory }) => Number(memory?.limit ?? 0n),
    ),
    gauge("processes", "Processes and threads of a container.", ({ pids }) => Number(pids?.current ?? 0n)),
    counter(
      "network_receive_bytes_total",
      "Bytes that a container's interfaces have received.",
      ({ networks }) => sum(Object.values(networks).map(({ rxBytes }) => rxBytes)),
    ),
    counter(
      "network_transmit_bytes_total",
      "Bytes that a container's interfaces have sent.",
      ({ networks }) => sum(Object.values(networks).map(({ txBytes }) => txBytes)),
    ),
    counter("block_read_bytes_total", "Bytes that a container has read from block devices.", (stats) =>
      blockBytes(stats, "read"),
    ),
    counter("block_written_bytes_total", "Bytes that a container has written to block devices.", (stats) =>
      blockBytes(stats, "write"),
    ),
  ];
}

function blockBytes({ blockIo }: StatsResponse, wanted: "read" | "write"): number {
  return sum(
    blockIo
      .filter(({ kind, op }) => kind === "service_bytes" && op.toLowerCase() === wanted)
      .map(({ value }) => value),
  );
}

function sum(values: readonly bigint[]): number {
  return Number(values.reduce((all, each) => all + each, 0n));
}

/** @returns the readings that arrived in time */
async function readAll(
  ways: AgentServices,
): Promise<{ readonly readings: readonly Reading[]; readonly missing: number }> {
  const signal = AbortSignal.timeout(limitMs);
  const readings: Reading[] = [];
  try {
    const { containers } = await ways.backend.containers.listContainers({}, { signal });
    const running = containers.filter(
      ({ state }) => state?.status === ContainerStatus.RUNNING || state?.status === ContainerStatus.PAUSED,
    );
    const waiting = running.slice(0, maxContainers).values();
    await Promise.all(
      Array.from({ length: concurrency }, async () => {
        for (const { id } of waiting) {
          const reading = await read(ways, id, signal).catch((error: unknown) => {
            ways.logger.debug({ err: error, container: id }, "a container is not measured");
            return undefined;
          });
          if (reading !== undefined) {
            readings.push(reading);
          }
        }
      }),
    );
    return { readings, missing: running.length - readings.length };
  } catch (error) {
    ways.logger.debug({ err: error }, "containers are not measured");
    return { readings, missing: 0 };
  }
}

/** @returns undefined if the container has ended */
async function read(
  { backend, agents }: AgentServices,
  container: string,
  signal: AbortSignal,
): Promise<Reading | undefined> {
  const { id, name, endpoint } = await backend.containers.openStats(
    { container, access: agents.access },
    { signal },
  );
  if (endpoint === undefined) {
    return undefined;
  }
  const agent = agents.clientOf(endpoint);
  try {
    for await (const stats of agent.client.stats({ oneShot: true }, { signal })) {
      return { id, name: name.replace(/^\//, ""), stats };
    }
    return undefined;
  } finally {
    agent.close();
  }
}
