import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { ResourcesSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { encodeOciLimits } from "./limits.ts";

const encoded = (limits: MessageInitShape<typeof ResourcesSchema>): unknown =>
  JSON.parse(
    new TextDecoder().decode(
      encodeOciLimits(create(ResourcesSchema, limits), { devices: () => ({ nodes: [], failure: "" }) }),
    ),
  );

test("only limits that are given are changed", () => {
  assert.deepEqual(encoded({ memory: 1n << 26n }), { memory: { limit: 1 << 26 } });
  assert.deepEqual(encoded({ memory: 1n << 26n, memorySwap: -1n }), { memory: { limit: 1 << 26, swap: -1 } });
  assert.deepEqual(encoded({ nanoCpus: 500_000_000n, cpusetCpus: "0" }), {
    cpu: { quota: 50_000, period: 100_000, cpus: "0" },
    memory: {},
  });
});

test("no limit of processes has to be said", () => {
  assert.deepEqual(encoded({ pidsLimit: 0n }), { memory: {}, pids: { limit: -1 } });
  assert.deepEqual(encoded({ pidsLimit: 7n }), { memory: {}, pids: { limit: 7 } });
});
