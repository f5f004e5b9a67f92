import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../common/manual-clock.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../state/container-table.ts";
import type { EngineContext } from "../context.ts";
import { keepPartners } from "./partner-pushes.ts";

describe("containers that share a network", () => {
  it("are told of each other in one pass, whoever has joined it and never started", () => {
    const { CREATED, RUNNING } = ContainerStatus;
    const count = { reads: 0 };
    const get = (record: ContainerRecord, field: keyof ContainerRecord): unknown => {
      count.reads++;
      return record[field];
    };
    const containers = new ContainerTable();
    const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() };
    const { put } = containers.changeInto(steps);
    for (let at = 0; at < 2_200; at++) {
      const hostConfig = { networkMode: at === 0 ? "bridge" : "container:n0" };
      const state = { status: at < 200 ? RUNNING : CREATED };
      const record = create(ContainerRecordSchema, { id: `n${at}`, name: `name-${at}`, hostConfig, state });
      put(new Proxy(record, { get } as ProxyHandler<ContainerRecord>));
    }
    put(create(ContainerRecordSchema, { id: "alone", hostConfig: {}, state: { status: RUNNING } }));
    const told: string[] = [];
    const context = {
      driver: { sharing: { kind: "agents" }, agentReach: { kind: "dialled" } },
      state: { containers },
      live: { peek: (id: string) => void told.push(id) },
      clock: new ManualClock(),
      shutdown: AbortSignal.abort(),
    } as unknown as EngineContext;
    count.reads = 0;
    keepPartners(context);
    assert.deepEqual(new Set(told), new Set(Array.from({ length: 200 }, (_, at) => `n${at}`)));
    assert.equal(told.length, 200);
    assert.ok(count.reads < 20 * containers.size, `${count.reads} fields read`);
  });
});
