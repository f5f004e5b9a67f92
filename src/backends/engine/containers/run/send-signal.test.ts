import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { ContainerStateSchema, ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../../../state/journal.ts";
import type { Change } from "../../../state/state.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { noteSignal } from "./send-signal.ts";

const id = "c".repeat(64);

describe("a signal to a run of an earlier process", () => {
  it("is meant for the start that its agent serves, once that has said which", async () => {
    const state = create(ContainerStateSchema, { status: ContainerStatus.RUNNING });
    const containers = new Map([[id, create(ContainerRecordSchema, { id, generation: 1n, state })]]);
    const context = {
      state: { containers, commit: () => Promise.resolve() },
    } as unknown as EngineContext;
    const greeting = Promise.withResolvers<void>();
    const live = {
      id,
      link: { greeting, ended: new AbortController() },
      lock: { run: <T>(work: () => Promise<T>) => work() },
      run: { endByUser: () => undefined },
    } as unknown as LiveContainer;
    const noted = noteSignal(context, live, 15, true);
    await nextTurn();
    containers.set(id, create(ContainerRecordSchema, { id, generation: 3n, state }));
    greeting.resolve();
    assert.equal((await noted).generation, 3n);
    Object.assign(live, { link: { greeting: Promise.withResolvers<void>(), ended: new AbortController() } });
    assert.equal((await noteSignal(context, live, 15, true)).generation, 3n, "it waits for no silent agent");
  });
});

describe("a signal", () => {
  it("has its container's record written if that does not say yet that there was one", async () => {
    const state = create(ContainerStateSchema, { status: ContainerStatus.RUNNING });
    const containers = new Map([[id, create(ContainerRecordSchema, { id, generation: 1n, state })]]);
    const written: string[] = [];
    const change = {
      containers: {
        put: (record: ContainerRecord) => {
          written.push("record");
          containers.set(record.id, record);
        },
      },
      event: ({ action }: NewEvent) => written.push(action),
    } as unknown as Change;
    const commit = (describeChange: (change: Change) => void): Promise<void> => {
      describeChange(change);
      return Promise.resolve();
    };
    const context = { state: { containers, commit } } as unknown as EngineContext;
    const live = {
      id,
      lock: { run: <T>(work: () => Promise<T>) => work() },
    } as unknown as LiveContainer;
    await noteSignal(context, live, 28, false);
    assert.equal(containers.get(id)?.stoppedByUser, true);
    await noteSignal(context, live, 28, false);
    assert.deepEqual(written, ["record", "kill", "kill"]);
  });
});
