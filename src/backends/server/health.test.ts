import assert from "node:assert/strict";
import { test } from "node:test";

import type { ConnectRouter, HandlerContext, ServiceImpl } from "@connectrpc/connect";

import {
  type Health,
  HealthCheckResponse_ServingStatus as Status,
} from "../../gen/grpc/health/v1/health_pb.ts";
import { registerHealth } from "./health.ts";

test("a watch ends if its client left while the status was being sent", async () => {
  const served = Promise.withResolvers<ServiceImpl<typeof Health>>();
  const service = (_: typeof Health, its: ServiceImpl<typeof Health>): void => served.resolve(its);
  registerHealth({ service } as unknown as ConnectRouter);
  const leaving = new AbortController();
  const { watch } = await served.promise;
  const told: (Status | undefined)[] = [];
  for await (const { status } of watch({ service: "" } as never, leaving as unknown as HandlerContext)) {
    told.push(status);
    leaving.abort();
  }
  assert.deepEqual(told, [Status.SERVING]);
});
