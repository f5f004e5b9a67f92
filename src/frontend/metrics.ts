/** The metrics of a frontend, of the daemon's other processes and of the backend; loaded only where they are served. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

import { messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { requestAnswered, streamBytes, streamEnded } from "../common/metrics/measure.ts";
import { joinMetrics, processRegistry } from "../common/metrics/process-metrics.ts";
import type { MetricsSource } from "../common/metrics/serve-metrics.ts";
import { processTree } from "../common/process-tree.ts";
import type { BackendClients } from "./backend/clients.ts";
import type { BackendPresence } from "./backend/presence.ts";
import { measureBuilds } from "./build-metrics.ts";
import { type AgentServices, measureContainers } from "./container-metrics.ts";
import type { StreamPool } from "./streams/stream-pool.ts";

const requestBuckets = [0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120];

/** Milliseconds for the backend to report its metrics or its readiness. */
const backendLimitMs = 5_000;

/** Parts of the frontend that are measured or queried. */
export interface MeasuredFrontend {
  readonly backend: Pick<BackendClients, "system" | "containers">;
  readonly presence: Pick<BackendPresence, "absence">;
  readonly streams: Pick<StreamPool, "size">;
  readonly agents: AgentServices["agents"];
  /** Whether single containers are measured. */
  readonly containers: boolean;
  /** Path of the builder's socket, whether or not a builder runs; undefined if the frontend runs alone. */
  readonly builderSocket: string | undefined;
  /** The supervisor; undefined if the frontend runs alone. */
  readonly supervisorPid: number | undefined;
  readonly logger: Logger;
}

/** Registers the metrics of a frontend. */
export function measureFrontend(parts: MeasuredFrontend): MetricsSource {
  const { backend, presence, streams, builderSocket, supervisorPid, logger } = parts;
  const registry = processRegistry("frontend");
  const registers = [registry];
  measureRequests(registers);
  measureStreams(streams, registers);
  const readContainers = parts.containers ? measureContainers(parts, registers) : undefined;
  const readBuilds = builderSocket === undefined ? undefined : measureBuilds(builderSocket, registers);
  const isUp = new Gauge({
    name: "sockerless_backend_up",
    help: "1 if the backend has told its metrics for this scrape, else 0.",
    registers,
  });
  if (supervisorPid !== undefined) {
    new Gauge({
      name: "sockerless_program_memory_bytes",
      help: "Resident memory of the daemon's processes by program; containers and their agents are not among them.",
      labelNames: ["program"],
      registers,
      collect() {
        this.reset();
        for (const { program, bytes } of processTree(supervisorPid)) {
          this.inc({ program }, bytes);
        }
      },
    });
  }
  return {
    async metrics() {
      const asked = backend.system.getMetrics({}, { timeoutMs: backendLimitMs }).catch((error: unknown) => {
        logger.debug({ err: error }, "the backend does not tell its metrics");
        return undefined;
      });
      const [theirs] = await Promise.all([asked, readContainers?.(), readBuilds?.()]);
      isUp.set(theirs === undefined ? 0 : 1);
      return joinMetrics([await registry.metrics(), theirs?.text ?? ""]);
    },
    async parts() {
      const absence = await presence.absence();
      if (absence !== undefined) {
        return [{ name: "backend", problem: absence }];
      }
      try {
        const { parts: theirs } = await backend.system.getReadiness({}, { timeoutMs: backendLimitMs });
        return [{ name: "backend", problem: "" }, ...theirs];
      } catch (error) {
        return [{ name: "backend", problem: messageOf(error) }];
      }
    },
  };
}

function measureRequests(registers: Registry[]): void {
  const requests = new Counter({
    name: "sockerless_http_requests_total",
    help: "Requests of Docker clients by route and status; an empty status: the client left.",
    labelNames: ["method", "route", "status"],
    registers,
  });
  const durations = new Histogram({
    name: "sockerless_http_request_duration_seconds",
    help: "Time until a request was answered whole; of a stream until it has begun or, where it is an answer, has ended.",
    labelNames: ["method"],
    buckets: requestBuckets,
    registers,
  });
  requestAnswered.observe(({ method, route = "none", status, seconds }) => {
    requests.inc({ method, route, status: status ?? "" });
    durations.observe({ method }, seconds);
  });
}

function measureStreams(streams: Pick<StreamPool, "size">, registers: Registry[]): void {
  new Gauge({
    name: "sockerless_streams",
    help: "Streams between clients and agents that are open; those handed on without the frontend are not among them.",
    registers,
    collect() {
      this.set(streams.size);
    },
  });
  const ended = new Counter({
    name: "sockerless_streams_ended_total",
    help: "Streams between clients and agents that have ended, or were cut or refused.",
    labelNames: ["outcome"],
    registers,
  });
  const bytes = new Counter({
    name: "sockerless_stream_bytes_total",
    help: "Bytes of streams: input goes to containers, output comes from them. Of a stream that was handed on they count at its end.",
    labelNames: ["direction"],
    registers,
  });
  streamEnded.observe(({ outcome }) => ended.inc({ outcome }));
  streamBytes.observe(({ direction, bytes: passed }) => bytes.inc({ direction }, passed));
}
