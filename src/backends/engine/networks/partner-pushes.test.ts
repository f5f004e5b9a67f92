import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../common/manual-clock.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../state/container-table.ts";
import type { EngineContext } from "../context.ts";
import { announceSharers, keepPartners } from "./partner-pushes.ts";

const { CREATED, RUNNING } = ContainerStatus;

/** An owner, 199 running containers that have joined it and 2,000 that never started, with the reads of their fields. */
function scene() {
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
  count.reads = 0;
  return { count, containers, running: Array.from({ length: 200 }, (_, at) => `n${at}`) };
}

describe("containers that share a network", () => {
  it("are told of each other in one pass, whoever has joined it and never started", () => {
    const { count, containers, running } = scene();
    const told: string[] = [];
    keepPartners({
      driver: { sharing: { kind: "agents" }, agentReach: { kind: "dialled" } },
      state: { containers },
      live: { peek: (id: string) => void told.push(id) },
      clock: new ManualClock(),
      shutdown: AbortSignal.abort(),
    } as unknown as EngineContext);
    assert.deepEqual(told.toSorted(compare), running.toSorted(compare));
    assert.ok(count.reads < 20 * containers.size, `${count.reads} fields read`);
  });

  it("are each allowed the others once where one of them leaves", () => {
    const { containers, running } = scene();
    const allowed: string[] = [];
    const links = new Map(
      running.map((id) => {
        const address = { kind: "called", pin: new Uint8Array() };
        return [
          id,
          { address, ended: new AbortController(), partners: { run: () => new Promise(() => {}) } },
        ];
      }),
    );
    const allow = (id: string, _pin: unknown, others: readonly unknown[]): void => {
      allowed.push(id);
      assert.equal(others.length, 199);
    };
    const context = {
      driver: {
        ...{ sharing: { kind: "agents" }, traffic: { kind: "direct" } },
        agentReach: { kind: "relayed", allow },
      },
      state: { containers },
      live: { peek: (id: string) => ({ link: links.get(id) }) },
      background: { run: (_: string, task: () => Promise<void>) => task() },
      shutdown: new AbortController().signal,
    } as unknown as EngineContext;
    const leaving = containers.get("n1");
    assert.ok(leaving !== undefined);
    announceSharers(context, leaving);
    assert.deepEqual(allowed.toSorted(compare), running.toSorted(compare));
  });
});

function compare(one: string, other: string): number {
  return one.localeCompare(other);
}
