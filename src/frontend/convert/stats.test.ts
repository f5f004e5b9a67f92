import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { StatsResponseSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { statsToJson } from "./stats.ts";

interface Shown {
  readonly pids_stats: unknown;
  readonly blkio_stats: Record<string, unknown>;
  readonly cpu_stats: { readonly cpu_usage: Record<string, unknown> };
  readonly memory_stats: Record<string, unknown> & { readonly stats: Record<string, number> };
}

const shown = (reading: Parameters<typeof create<typeof StatsResponseSchema>>[1]): Shown =>
  JSON.parse(stringifyJson(statsToJson("id", "/name", create(StatsResponseSchema, reading)))) as Shown;

const entry = { major: 8n, minor: 0n, value: 4096n };

test("version 1 of control groups counts each processor and has lists for what it does not count", () => {
  const stats = shown({
    cpu: { totalUsageNs: 30n, perCpuUsageNs: [10n, 20n] },
    pids: { current: 2n },
    memory: { usage: 5n, maxUsage: 9n, stats: { total_rss: 3n, shmem: 1n } },
    blockIo: [
      { ...entry, kind: "service_bytes", op: "Read" },
      { ...entry, kind: "serviced", op: "Read", value: 1n },
    ],
  });
  assert.deepEqual(stats.cpu_stats.cpu_usage["percpu_usage"], [10, 20]);
  assert.deepEqual(stats.pids_stats, { current: 2 });
  assert.deepEqual(stats.blkio_stats["io_service_bytes_recursive"], [
    { major: 8, minor: 0, op: "Read", value: 4096 },
  ]);
  assert.deepEqual(stats.blkio_stats["io_serviced_recursive"], [
    { major: 8, minor: 0, op: "Read", value: 1 },
  ]);
  assert.deepEqual(stats.blkio_stats["sectors_recursive"], []);
  assert.deepEqual([stats.memory_stats["usage"], stats.memory_stats["max_usage"]], [5, 9]);
  assert.equal(stats.memory_stats.stats["total_rss"], 3);
  assert.equal(stats.memory_stats.stats["cache"], 0);
  assert.ok(!("shmem" in stats.memory_stats.stats));
});

test("version 2 of control groups has one sum, nulls, and the largest number for no limit", () => {
  const stats = shown({
    cpu: { totalUsageNs: 30n },
    pids: { current: 2n },
    memory: { usage: 5n, failures: 1n, stats: { anon: 3n } },
    blockIo: [{ ...entry, kind: "service_bytes", op: "read" }],
  });
  assert.ok(!("percpu_usage" in stats.cpu_stats.cpu_usage));
  assert.deepEqual(stats.pids_stats, { current: 2, limit: Number(2n ** 64n - 1n) });
  assert.equal(stats.blkio_stats["io_serviced_recursive"], null);
  assert.equal(stats.memory_stats["failcnt"], 1);
  assert.deepEqual([stats.memory_stats.stats["anon"], stats.memory_stats.stats["pgscan"]], [3, 0]);
});
