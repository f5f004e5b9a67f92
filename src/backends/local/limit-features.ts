/** Limits that this machine's kernel cannot enforce, judged by controllers and files of its control groups. */
import { existsSync } from "node:fs";

import type { LimitFeature } from "../driver/machine.ts";

/** Files that indicate a feature in cgroup v1; each is in its controller's root group. */
const files: Readonly<Record<LimitFeature, string>> = {
  memory: "memory/memory.limit_in_bytes",
  swap: "memory/memory.memsw.limit_in_bytes",
  swappiness: "memory/memory.swappiness",
  reservation: "memory/memory.soft_limit_in_bytes",
  "oom-kill-disable": "memory/memory.oom_control",
  pids: "pids/cgroup.procs",
  "cpu-shares": "cpu/cpu.shares",
  "cpu-quota": "cpu/cpu.cfs_quota_us",
  cpuset: "cpuset/cpuset.cpus",
  "io-weight": "blkio/blkio.weight",
  "io-weight-device": "blkio/blkio.weight_device",
  "io-read-bps": "blkio/blkio.throttle.read_bps_device",
  "io-write-bps": "blkio/blkio.throttle.write_bps_device",
  "io-read-iops": "blkio/blkio.throttle.read_iops_device",
  "io-write-iops": "blkio/blkio.throttle.write_iops_device",
};

/** Controllers by feature in cgroup v2, which lacks the features not listed here. */
const controllers: Readonly<Partial<Record<LimitFeature, string>>> = {
  memory: "memory",
  swap: "memory",
  reservation: "memory",
  pids: "pids",
  "cpu-shares": "cpu",
  "cpu-quota": "cpu",
  cpuset: "cpuset",
  "io-weight": "io",
  "io-weight-device": "io",
  "io-read-bps": "io",
  "io-write-bps": "io",
  "io-read-iops": "io",
  "io-write-iops": "io",
};

/**
 * The limits that cannot be enforced here.
 *
 * @param usable controllers of cgroup v2
 * @param exists whether a file exists below the mount of the control groups
 */
export function missingLimits(
  cgroupVersion: string,
  usable: readonly string[],
  exists: (file: string) => boolean = (file) => existsSync(`/sys/fs/cgroup/${file}`),
): ReadonlySet<LimitFeature> {
  const isThere = (feature: LimitFeature): boolean =>
    cgroupVersion === "2" ? usable.includes(controllers[feature] ?? "none") : exists(files[feature]);
  return new Set((Object.keys(files) as LimitFeature[]).filter((feature) => !isThere(feature)));
}
