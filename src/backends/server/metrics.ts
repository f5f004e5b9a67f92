/** The metrics of a backend; loaded only where metrics are served. */
import { readdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";

import { Counter, Gauge, Histogram, type Registry } from "prom-client";

import { statusName, statusOfName } from "../../common/container-status.ts";
import {
  cloudCalled,
  preparedAsked,
  preparedWaited,
  startEnded,
  stateWritten,
} from "../../common/metrics/measure.ts";
import { processRegistry } from "../../common/metrics/process-metrics.ts";
import type { Machine } from "../driver/machine.ts";
import type { EngineContext } from "../engine/context.ts";
import { isVisible, stateOf } from "../model/records.ts";
import { locationOf } from "../state/database.ts";

/** Seconds: a local start takes a tenth, one in a cloud a minute or more. */
const startBuckets = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300];
const callBuckets = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** How long a cloud may take to tell its quotas. */
const quotaLimitMs = 2_000;
const writeBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1];

/**
 * Begins to measure a backend.
 *
 * @returns tells its metrics in Prometheus' text format
 */
export function measureBackend(context: EngineContext, stateDirectory: string): () => Promise<string> {
  const { driver, state, images } = context;
  const registry = processRegistry("backend");
  const registers = [registry];
  measureStarts(driver.name, registers);
  measureCalls(registers);
  measureWrites(registers);
  measurePrepared(registers);
  const readQuotas = measureQuotas(driver.machine, registers);

  new Gauge({
    name: "sockerless_containers",
    help: "Containers by state.",
    labelNames: ["state"],
    registers,
    collect() {
      this.reset();
      for (const name of statusOfName.keys()) {
        this.set({ state: name }, 0);
      }
      for (const record of [...state.containers.values()].filter(isVisible)) {
        this.inc({ state: statusName(stateOf(record).status) });
      }
    },
  });
  new Gauge({
    name: "sockerless_objects",
    help: "Objects of a backend by kind: images, volumes, networks and execs, those of builds included.",
    labelNames: ["kind"],
    registers,
    collect() {
      const { volumes, networks, execs } = state;
      for (const [kind, table] of Object.entries({
        image: state.images,
        volume: volumes,
        network: networks,
        exec: execs,
      })) {
        this.set({ kind }, [...table.values()].length);
      }
    },
  });
  new Gauge({
    name: "sockerless_image_layers_bytes",
    help: "Size of all layers of images, each layer counted once.",
    registers,
    collect() {
      this.set(Number(images.layersSize()));
    },
  });
  new Gauge({
    name: "sockerless_state_database_bytes",
    help: "Size of the files of the state's database (LevelDB).",
    registers,
    async collect() {
      this.set(await sizeOfFiles(locationOf(stateDirectory)));
    },
  });
  new Gauge({
    name: "sockerless_state_disk_available_bytes",
    help: "Free space of the file system of the state directory.",
    registers,
    async collect() {
      const { bavail, bsize } = await statfs(stateDirectory);
      this.set(bavail * bsize);
    },
  });
  new Gauge({
    name: "sockerless_state_disk_size_bytes",
    help: "Size of the file system of the state directory.",
    registers,
    async collect() {
      const { blocks, bsize } = await statfs(stateDirectory);
      this.set(blocks * bsize);
    },
  });
  return async () => {
    await readQuotas();
    return await registry.metrics();
  };
}

function measureStarts(backend: string, registers: Registry[]): void {
  const starts = new Histogram({
    name: "sockerless_container_start_duration_seconds",
    help: "Time from the request for a start to its end, well or not.",
    labelNames: ["backend", "outcome"],
    buckets: startBuckets,
    registers,
  });
  const phases = new Histogram({
    name: "sockerless_container_start_phase_duration_seconds",
    help: "Time that each phase of a start has taken, by the outcome of the start.",
    labelNames: ["backend", "phase", "outcome"],
    buckets: startBuckets,
    registers,
  });
  startEnded.observe(({ outcome, seconds, phases: ended }) => {
    starts.observe({ backend, outcome }, seconds);
    for (const phase of ended) {
      phases.observe({ backend, outcome, phase: phase.name }, phase.seconds);
    }
  });
}

function measureCalls(registers: Registry[]): void {
  const calls = new Counter({
    name: "sockerless_cloud_calls_total",
    help: "Calls of the cloud by action and HTTP status; status 0: nobody answered.",
    labelNames: ["service", "action", "status", "throttled"],
    registers,
  });
  const durations = new Histogram({
    name: "sockerless_cloud_call_duration_seconds",
    help: "Time until the cloud has answered a call, repetitions counted apart.",
    labelNames: ["service"],
    buckets: callBuckets,
    registers,
  });
  cloudCalled.observe(({ service, action, status, isThrottled, seconds }) => {
    calls.inc({ service, action, status, throttled: String(isThrottled) });
    durations.observe({ service }, seconds);
  });
}

function measureWrites(registers: Registry[]): void {
  const writes = new Histogram({
    name: "sockerless_state_write_duration_seconds",
    help: "Time that a batch of changes takes to be written to the state's database.",
    labelNames: ["outcome"],
    buckets: writeBuckets,
    registers,
  });
  stateWritten.observe(({ outcome, seconds }) => writes.observe({ outcome }, seconds));
}

function measurePrepared(registers: Registry[]): void {
  const asked = new Counter({
    name: "sockerless_prepared_tasks_asked_total",
    help: "Starts that looked for a task that waits for its container, by what they found.",
    labelNames: ["outcome"],
    registers,
  });
  preparedAsked.observe(({ outcome }) => asked.inc({ outcome }));
  const idle = new Counter({
    name: "sockerless_prepared_tasks_idle_seconds_total",
    help: "Time that tasks have waited for containers, all of them together.",
    registers,
  });
  const cost = new Counter({
    name: "sockerless_prepared_tasks_cost_total",
    help: "What tasks that wait have cost, in the currency of pool.prices; 0 while no limit asks for money.",
    registers,
  });
  preparedWaited.observe(({ seconds, cost: added }) => {
    idle.inc(seconds);
    cost.inc(added);
  });
}

/** @returns reads both figures anew: a metric's own collection would be late for the other's */
function measureQuotas(machine: Pick<Machine, "quotas">, registers: Registry[]): () => Promise<void> {
  const labels = { labelNames: ["quota"], registers } as const;
  const limit = new Gauge({
    name: "sockerless_cloud_quota_limit",
    help: "What a quota of the cloud allows, in the quota's own unit; absent while it is not known.",
    ...labels,
  });
  const taken = new Gauge({
    name: "sockerless_cloud_quota_used",
    help: "What is taken of a quota of the cloud: by all in Azure and Kubernetes; in AWS by this backend's tasks, beside which others take of it.",
    ...labels,
  });
  return async () => {
    limit.reset();
    taken.reset();
    for (const { name, most, used } of await machine.quotas(AbortSignal.timeout(quotaLimitMs))) {
      taken.set({ quota: name }, used);
      if (most !== undefined) {
        limit.set({ quota: name }, most);
      }
    }
  };
}

/** Bytes of the files in a directory; files may come and go meanwhile. */
async function sizeOfFiles(directory: string): Promise<number> {
  const names = await readdir(directory);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(directory, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
