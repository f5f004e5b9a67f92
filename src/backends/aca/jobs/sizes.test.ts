import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { HostConfigSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { describeSize, jobSizeOf, sizeNotice } from "./sizes.ts";

const gib = 1024 ** 3;
const defaults = { cpu: 1, memory: 2 * gib };
const sizeOf = (said: MessageInitShape<typeof HostConfigSchema>, given = defaults) =>
  jobSizeOf(create(HostConfigSchema, said), given);

describe("jobSizeOf", () => {
  it("gives the default to a container that asks for nothing", () => {
    assert.deepEqual(sizeOf({}), { cpu: 1, memory: 2, disk: 4 });
    assert.deepEqual(sizeOf({}, { cpu: 0.25, memory: 3 * gib }), { cpu: 1.5, memory: 3, disk: 8 });
  });

  it("takes the smallest pair that holds processors and memory", () => {
    assert.deepEqual(sizeOf({ resources: { memory: 512n * 1024n ** 2n } }), {
      cpu: 0.25,
      memory: 0.5,
      disk: 1,
    });
    assert.deepEqual(sizeOf({ resources: { memory: 513n * 1024n ** 2n } }), { cpu: 0.5, memory: 1, disk: 2 });
    assert.deepEqual(sizeOf({ resources: { nanoCpus: 2_000_000_000n } }), { cpu: 2, memory: 4, disk: 8 });
    assert.deepEqual(sizeOf({ resources: { nanoCpus: 2_000_000_001n } }).cpu, 2.25);
    assert.deepEqual(sizeOf({ resources: { cpuQuota: 50_000n } }).cpu, 0.5);
    assert.deepEqual(sizeOf({ resources: { cpuShares: 1024n, memory: 4n * 1024n ** 3n } }).cpu, 2);
  });

  it("takes as many processors as bring the disk", () => {
    assert.equal(sizeOf({ storageOpt: { size: "4G" }, resources: { cpuShares: 256n } }).cpu, 1);
    assert.deepEqual(sizeOf({ storageOpt: { size: "5G" } }), { cpu: 1.25, memory: 2.5, disk: 8 });
    assert.throws(
      () => sizeOf({ storageOpt: { size: "9G" } }),
      /a job has at most 8 GiB of disk: 9G was asked for/,
    );
    assert.throws(() => sizeOf({ storageOpt: { size: "much" } }), /invalid size: 'much'/);
  });

  it("refuses what is too large", () => {
    assert.throws(
      () => sizeOf({ resources: { nanoCpus: 5_000_000_000n } }),
      /a job has at most 4 vCPU and 8 GiB of memory: 5 vCPU and no MiB were asked for/,
    );
    assert.throws(() => sizeOf({ resources: { memory: 9n * 1024n ** 3n } }), /no vCPU and 9216 MiB/);
  });

  it("is told where it is another than was asked for, or its disk is small", () => {
    const told = (resources: MessageInitShape<typeof HostConfigSchema>["resources"]) =>
      sizeNotice(create(HostConfigSchema, resources === undefined ? {} : { resources }), defaults)?.why;
    assert.equal(told(undefined), undefined);
    assert.equal(told({ nanoCpus: 2_000_000_000n }), undefined);
    assert.equal(
      told({ memory: 600n * 1024n ** 2n }),
      "the container gets 0.5 vCPU, 1 GiB of memory and 2 GiB of disk",
    );
    assert.match(told({ memory: 512n * 1024n ** 2n }) ?? "", /1 GiB of disk/);
    assert.match(told({ nanoCpus: 1_100_000_000n }) ?? "", /1.25 vCPU/);
  });

  it("has words for a size", () => {
    assert.equal(describeSize(sizeOf({})), "1 vCPU, 2 GiB of memory and 4 GiB of disk");
  });
});
