import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ResourcesSchema } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { LimitFeature } from "../../../../driver/machine.ts";
import { discardMissingLimits } from "./discarded-limits.ts";

const asked = () =>
  create(ResourcesSchema, { memory: 8_000_000n, cpuShares: 7n, blkioWeight: 100, cpusetCpus: "0" });

test("limits that the machine can keep are kept without a word", () => {
  for (const missing of [undefined, new Set<LimitFeature>(["pids", "swappiness", "io-read-bps"])]) {
    assert.deepEqual(discardMissingLimits(asked(), missing), { resources: asked(), warnings: [] });
  }
});

test("limits that it cannot keep are discarded, one by one and in Docker's words", () => {
  const { resources, warnings } = discardMissingLimits(asked(), new Set(["io-weight", "memory", "swap"]));
  assert.deepEqual(warnings, [
    "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
    "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
  ]);
  const { memory, memorySwap, blkioWeight, cpuShares, cpusetCpus } = resources;
  assert.deepEqual([memory, memorySwap, blkioWeight, cpuShares, cpusetCpus], [0n, -1n, 0, 7n, "0"]);
});

test("memory goes without swap where only that cannot be limited", () => {
  const { resources, warnings } = discardMissingLimits(asked(), new Set(["swap"]));
  assert.deepEqual([resources.memory, resources.memorySwap], [8_000_000n, -1n]);
  assert.match(warnings.join(), /Memory limited without swap\.$/);
});

test("a percentage of processors is of another operating system", () => {
  const { resources, warnings } = discardMissingLimits(
    create(ResourcesSchema, { cpuPercent: 5n }),
    undefined,
  );
  assert.deepEqual(
    [resources.cpuPercent, warnings],
    [0n, ["linux does not support CPU percent. Percent discarded."]],
  );
});

test("who disables the OOM killer without a limit is warned, where it can be disabled", () => {
  const disabled = () => create(ResourcesSchema, { oomKillDisable: true });
  assert.match(discardMissingLimits(disabled(), undefined).warnings.join(), /^OOM killer is disabled/);
  assert.deepEqual(discardMissingLimits(disabled(), new Set(["oom-kill-disable"])).warnings, [
    "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
  ]);
});
