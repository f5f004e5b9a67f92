import assert from "node:assert/strict";
import { describe, it, test } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { pino } from "pino";

import {
  CommitContainerRequestSchema,
  ContainerStatus,
} from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema, NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { KeyedLocks } from "../../concurrency/serial.ts";
import { ContainerTable } from "../../state/container-table.ts";
import { NetworkTable } from "../../state/network-table.ts";
import { LiveContainer } from "../containers/live/live.ts";
import { commitContainer } from "../containers/streams/commit-container.ts";
import type { EngineContext } from "../context.ts";
import { BackgroundWork } from "../work/background.ts";
import { networkService } from "./network-service.ts";
import { volumeService } from "./volume-service.ts";

const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() };

describe("a removal that waits for another one", () => {
  const networks = new NetworkTable();
  networks.changeInto(steps).put(create(NetworkRecordSchema, { network: { id: "net", name: "net" } }));
  const [volumeLocks, networkLocks] = [new KeyedLocks(), new KeyedLocks()];
  const context = {
    ...{ volumeLocks, networkLocks },
    state: { networks, volumes: new Map() },
    driver: { volumes: { rules: { drivers: [{ name: "local", content: "here" }] } } },
  } as unknown as EngineContext;
  const calls = {
    volume: (client: HandlerContext) =>
      volumeService(context).removeVolume({ name: "data", force: true } as never, client),
    network: (client: HandlerContext) =>
      networkService(context).removeNetwork({ network: "net" } as never, client),
  };
  for (const [kind, call] of Object.entries(calls)) {
    it(`of a ${kind} ends with its client`, async () => {
      const [over, client] = [Promise.withResolvers<void>(), new AbortController()];
      void volumeLocks.run("data", () => over.promise);
      void networkLocks.run("net", () => over.promise);
      const removed = Promise.resolve(call({ signal: client.signal } as HandlerContext));
      client.abort(new Error("the client is gone"));
      setImmediate(() => over.resolve());
      await assert.rejects(removed, /the client is gone/);
    });
  }
});

test("a commit that waits for another change of its container ends with its client", async () => {
  const containers = new ContainerTable();
  const [live, over, client] = [new LiveContainer("c"), Promise.withResolvers<void>(), new AbortController()];
  const running = create(ContainerRecordSchema, {
    ...{ id: "c", config: { cmd: { values: ["sh"] } }, state: { status: ContainerStatus.RUNNING } },
  });
  containers.changeInto({ ...steps }).put(running);
  const context = {
    state: { containers },
    live: { of: () => live, peek: () => live },
    driver: { workloads: { stored: () => ({ kind: "unix", path: "/nowhere" }) } },
    images: { commit: () => Promise.reject(new Error("it is committed all the same")) },
    logger: { warn: () => {} },
    shutdown: new AbortController().signal,
    freezes: new BackgroundWork(pino({ enabled: false }), new AbortController().signal),
  } as unknown as EngineContext;
  void live.lock.run(() => over.promise);
  const request = create(CommitContainerRequestSchema, { container: "c", pause: true });
  const committed = commitContainer(context, request, client.signal);
  client.abort(new Error("the client is gone"));
  setImmediate(() => over.resolve());
  await assert.rejects(committed, /the client is gone/);
});
