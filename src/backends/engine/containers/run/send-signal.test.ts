import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { ContainerStateSchema, ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
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
