import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";

import { ContainerRecordSchema, VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../state/container-table.ts";
import type { EngineContext } from "../context.ts";
import { systemService } from "./system-service.ts";
import { volumeService } from "./volume-service.ts";

/** An engine with a container and a volume, whose measurements end at once where their client has left. */
function scene(): EngineContext {
  const containers = new ContainerTable();
  const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() };
  containers.changeInto(steps).put(create(ContainerRecordSchema, { id: "a", name: "a" }));
  const volumes = new Map([["data", create(VolumeRecordSchema, { name: "data", driver: "local" })]]);
  return {
    driver: {
      volumes: { rules: { drivers: [{ name: "local", content: "here" }] } },
      disk: {
        kind: "meter",
        measure: (_: unknown, signal?: AbortSignal) => {
          signal?.throwIfAborted();
          throw new Error("nobody waits for this measurement");
        },
      },
    },
    state: { containers, volumes },
  } as unknown as EngineContext;
}

describe("a measurement of disks", () => {
  const context = scene();
  const { getDiskUsage } = systemService(context, {} as Parameters<typeof systemService>[1]);
  const { pruneVolumes } = volumeService(context);
  const all = { all: { values: ["true"] } };
  const calls: Record<string, (client: HandlerContext) => unknown> = {
    "system df of containers": (client) => getDiskUsage({ types: ["container"] } as never, client),
    "system df of volumes": (client) => getDiskUsage({ types: ["volume"] } as never, client),
    "volume prune": (client) => pruneVolumes({ filters: all } as never, client),
  };
  for (const [name, call] of Object.entries(calls)) {
    it(`ends with the client of ${name}`, async () => {
      const signal = AbortSignal.abort(new Error("the client is gone"));
      await assert.rejects(async () => await call({ signal } as HandlerContext), /the client is gone/);
    });
  }
});
