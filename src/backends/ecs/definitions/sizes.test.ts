import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { isErrorKind } from "../../../common/errors.ts";
import { ResourcesSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { ephemeralStorageOf } from "./ephemeral-storage.ts";
import { taskSizeOf } from "./sizes.ts";

const mib = 1024n ** 2n;

function size(resources: MessageInitShape<typeof ResourcesSchema>): string {
  const { cpu, memory } = taskSizeOf(create(ResourcesSchema, resources));
  return `${cpu}/${memory}`;
}

describe("a task's size", () => {
  it("is the smallest where nothing is asked for", () => {
    assert.deepEqual(taskSizeOf(undefined), { cpu: 256, memory: 512 });
    assert.equal(size({}), "256/512");
  });

  it("is rounded up to the next that AWS has", () => {
    for (const [resources, expected] of [
      [{ memory: 4n * mib }, "256/512"],
      [{ memory: 513n * mib }, "256/1024"],
      [{ memory: 2049n * mib }, "512/3072"],
      [{ memory: 5000n * mib }, "1024/5120"],
      [{ nanoCpus: 1_000_000_000n }, "1024/2048"],
      [{ nanoCpus: 1_100_000_000n }, "2048/4096"],
      [{ nanoCpus: 250_000_000n, memory: 1024n * mib }, "256/1024"],
      [{ cpuShares: 512n }, "512/1024"],
      [{ cpuQuota: 400_000n, cpuPeriod: 100_000n }, "4096/8192"],
      [{ cpuQuota: 150_000n }, "2048/4096"],
      [{ memory: 62_000n * mib }, "16384/65536"],
      [{ nanoCpus: 16_000_000_000n, memory: 120n * 1024n * mib }, "16384/122880"],
    ] as const) {
      assert.equal(size(resources), expected);
    }
  });

  it("has an end", () => {
    for (const resources of [{ nanoCpus: 17_000_000_000n }, { memory: 121n * 1024n * mib }]) {
      assert.throws(
        () => size(resources),
        (error: Error) => isErrorKind(error, "invalid") && /at most 16 vCPU and 120 GiB/.test(error.message),
      );
    }
  });
});

describe("a task's disk", () => {
  it("is asked for only where it is larger than every task's", () => {
    assert.equal(ephemeralStorageOf({}), undefined);
    assert.equal(ephemeralStorageOf({ size: "20G" }), undefined);
    assert.equal(ephemeralStorageOf({ size: "21g" }), 21);
    assert.equal(ephemeralStorageOf({ size: "30000m" }), 30);
    assert.equal(ephemeralStorageOf({ size: "107374182400" }), 100);
  });

  it("has an end, and is a size", () => {
    assert.throws(() => ephemeralStorageOf({ size: "201G" }), /at most 200 GiB/);
    assert.throws(() => ephemeralStorageOf({ size: "much" }), /invalid size: 'much'/);
  });
});
