import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ResourcesSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ApiVersion } from "../api-version.ts";
import { updateRequestFromJson } from "./update-request.ts";

const read = (body: unknown, version = "1.51") => updateRequestFromJson(body, new ApiVersion(version));

test("what an update does not name stays", () => {
  const { resources, restartPolicy } = read({});
  assert.deepEqual([resources.memory, resources.pidsLimit, restartPolicy.name], [0n, undefined, ""]);
});

test("an update names limits as a creation does, and a restart policy", () => {
  const { resources, restartPolicy } = read({
    Memory: 1024,
    NanoCpus: 5,
    PidsLimit: -1,
    RestartPolicy: { Name: "on-failure", MaximumRetryCount: 3 },
  });
  assert.deepEqual([resources.memory, resources.nanoCpus, resources.pidsLimit], [1024n, 5n, -1n]);
  assert.deepEqual([restartPolicy.name, restartPolicy.maximumRetryCount], ["on-failure", 3]);
});

test("what a version of the API does not have is not read", () => {
  assert.equal(read({ PidsLimit: 7 }, "1.39").resources.pidsLimit, undefined);
  assert.equal(read({ PidsLimit: 7 }, "1.40").resources.pidsLimit, 7n);
  assert.equal(read({ KernelMemory: 7 }, "1.41").resources.kernelMemory, 7n);
  assert.equal(read({ KernelMemory: 7 }, "1.42").resources.kernelMemory, 0n);
});

test("a limit of the wrong type is refused", () => {
  assert.throws(() => read({ Memory: "much" }), { kind: "invalid" });
});

test("a text or list that no update changes is not kept", () => {
  const { resources } = read({
    CgroupParent: "x".repeat(100_000),
    Devices: [{ PathOnHost: "/dev/null" }],
    Ulimits: [{ Name: "nofile", Soft: 1, Hard: 1 }],
    BlkioDeviceReadBps: [{ Path: "/dev/sda", Rate: 1 }],
    DeviceRequests: [{ Driver: "x" }],
    CpusetCpus: "0",
    OomKillDisable: true,
  });
  const kept = create(ResourcesSchema, { cpusetCpus: "0", oomKillDisable: true });
  assert.deepEqual(resources, kept);
});
