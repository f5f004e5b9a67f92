import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";

import { NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { KeyedLocks } from "../../concurrency/serial.ts";
import { NetworkTable } from "../../state/network-table.ts";
import type { EngineContext } from "../context.ts";
import { networkService } from "./network-service.ts";
import { volumeService } from "./volume-service.ts";

describe("a removal that waits for another one", () => {
  const networks = new NetworkTable();
  const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() };
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
