/** Resource usage: the agent's readings of cgroup v1 or v2 as Docker's JSON. */
import type {
  BlockIoEntry,
  CpuStats,
  MemoryStats,
  NetworkStats,
  StatsResponse,
} from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { rfc3339Nano, unlessEmpty, unlessNoKeys, unlessZero } from "./json-values.ts";

/** Go's number for "no limit" of processes in cgroup version 2. */
const noLimit = 2n ** 64n - 1n;

/** The keys of `memory.stat` that Docker shows. */
const memoryKeysV1 = [
  ...["cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault"],
  ...["pgmajfault", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"],
  ...["hierarchical_memory_limit", "hierarchical_memsw_limit", "total_cache", "total_rss"],
  ...["total_rss_huge", "total_mapped_file", "total_dirty", "total_writeback", "total_pgpgin"],
  ...["total_pgpgout", "total_pgfault", "total_pgmajfault", "total_inactive_anon", "total_active_anon"],
  ...["total_inactive_file", "total_active_file", "total_unevictable"],
];
const memoryKeysV2 = [
  ...["anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty"],
  ...["file_writeback", "anon_thp", "inactive_anon", "active_anon", "inactive_file", "active_file"],
  ...["unevictable", "slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault"],
  ...["workingset_refault", "workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan"],
  ...["pgsteal", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc"],
  "thp_collapse_alloc",
];

/**
 * One element of `GET /containers/{id}/stats`.
 *
 * @param reading undefined if the container does not run: everything is zero
 * @param name with its leading slash
 */
export function statsToJson(
  id: string,
  name: string,
  reading: StatsResponse | undefined,
): Record<string, unknown> {
  // Only cgroup v1 counts per processor.
  const isV1 = (reading?.cpu?.perCpuUsageNs.length ?? 0) > 0;
  return {
    name: unlessEmpty(name),
    id: unlessEmpty(id),
    read: rfc3339Nano(reading?.read),
    preread: rfc3339Nano(reading?.previousRead),
    pids_stats: pidsToJson(reading, isV1),
    blkio_stats: blockIoToJson(reading?.blockIo ?? [], isV1),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: cpuToJson(reading?.cpu),
    precpu_stats: cpuToJson(reading?.previousCpu),
    memory_stats: reading?.memory === undefined ? {} : memoryToJson(reading.memory, isV1),
    networks: unlessNoKeys(
      Object.fromEntries(
        Object.entries(reading?.networks ?? {}).map(([each, use]) => [each, networkToJson(use)]),
      ),
    ),
  };
}

function pidsToJson(reading: StatsResponse | undefined, isV1: boolean): Record<string, unknown> {
  const pids = reading?.pids;
  if (pids === undefined) {
    return {};
  }
  const limit = pids.limit === 0n && !isV1 ? noLimit : pids.limit;
  return { current: unlessZero(pids.current), limit: unlessZero(limit) };
}

function cpuToJson(cpu: CpuStats | undefined): Record<string, unknown> {
  return {
    cpu_usage: {
      total_usage: cpu?.totalUsageNs ?? 0,
      percpu_usage: cpu === undefined || cpu.perCpuUsageNs.length === 0 ? undefined : cpu.perCpuUsageNs,
      usage_in_kernelmode: cpu?.kernelNs ?? 0,
      usage_in_usermode: cpu?.userNs ?? 0,
    },
    system_cpu_usage: unlessZero(cpu?.systemNs ?? 0),
    online_cpus: unlessZero(cpu?.onlineCpus ?? 0),
    throttling_data: {
      periods: cpu?.periods ?? 0,
      throttled_periods: cpu?.throttledPeriods ?? 0,
      throttled_time: cpu?.throttledNs ?? 0,
    },
  };
}

function memoryToJson(memory: MemoryStats, isV1: boolean): Record<string, unknown> {
  const keys = isV1 ? memoryKeysV1 : memoryKeysV2;
  return {
    usage: unlessZero(memory.usage),
    max_usage: unlessZero(memory.maxUsage),
    stats: Object.fromEntries(keys.map((key) => [key, memory.stats[key] ?? 0])),
    failcnt: unlessZero(memory.failures),
    limit: unlessZero(memory.limit),
  };
}

/** Kinds without counters are empty lists with cgroup v1, and null with v2. */
function blockIoToJson(entries: readonly BlockIoEntry[], isV1: boolean): Record<string, unknown> {
  const none = isV1 ? [] : null;
  const of = (kind: string) => {
    const found = entries.filter((entry) => entry.kind === kind);
    return found.length === 0
      ? none
      : found.map(({ major, minor, op, value }) => ({ major, minor, op, value }));
  };
  return {
    io_service_bytes_recursive: of("service_bytes"),
    io_serviced_recursive: of("serviced"),
    io_queue_recursive: none,
    io_service_time_recursive: none,
    io_wait_time_recursive: none,
    io_merged_recursive: none,
    io_time_recursive: none,
    sectors_recursive: none,
  };
}

function networkToJson(use: NetworkStats): Record<string, unknown> {
  return {
    rx_bytes: use.rxBytes,
    rx_packets: use.rxPackets,
    rx_errors: use.rxErrors,
    rx_dropped: use.rxDropped,
    tx_bytes: use.txBytes,
    tx_packets: use.txPackets,
    tx_errors: use.txErrors,
    tx_dropped: use.txDropped,
  };
}
