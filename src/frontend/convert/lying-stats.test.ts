/** Resource use as an agent reports it is not believed: any report becomes JSON. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import fc from "fast-check";

import { StatsResponseSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { statsToJson } from "./stats.ts";

const word = fc.constantFrom("", "read", "service_bytes", "__proto__", "constructor", "\u0000");
const counter = fc.constantFrom(0n, 1n, 2n ** 64n - 1n);
const cpu = fc.record({ totalUsageNs: counter, perCpuUsageNs: fc.array(counter, { maxLength: 3 }) });
const time = fc.record({
  seconds: fc.constantFrom(0n, -1n, 253_402_300_800n, 2n ** 63n - 1n, -(2n ** 63n)),
  nanos: fc.constantFrom(0, 1, -1, 2 ** 31 - 1),
});

test("absurd readings are shown, and nothing breaks", () => {
  fc.assert(
    fc.property(
      fc.record(
        {
          read: time,
          previousRead: time,
          cpu,
          previousCpu: cpu,
          memory: fc.record({ usage: counter, limit: counter, stats: fc.dictionary(word, counter) }),
          pids: fc.record({ current: counter, limit: counter }),
          blockIo: fc.array(fc.record({ kind: word, major: counter, op: word, value: counter })),
          networks: fc.dictionary(word, fc.record({ rxBytes: counter })),
        },
        { requiredKeys: [] },
      ),
      (reading) => {
        const text = stringifyJson(statsToJson("id", "/name", create(StatsResponseSchema, reading)));
        const told = JSON.parse(text) as { readonly id: string; readonly read: string };
        assert.equal(told.id, "id");
        assert.match(told.read, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/);
      },
    ),
  );
});
