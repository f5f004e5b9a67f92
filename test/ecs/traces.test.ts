/** A cold start on a simulated AWS is one trace: the client's request, AWS' calls, and the phases of the start. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Collector } from "../support/collector.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { until } from "../support/until.ts";

test("a cold start on ECS is one trace whose spans are its phases", async () => {
  await using collector = await Collector.start();
  await using ecs = await EcsDaemon.start({ daemon: { env: collector.environment } });
  assert.equal(await ecs.daemon.ok("run", "busybox", "echo", "said"), "said");
  const request = await until(() => collector.spans.find(({ name }) => name.endsWith("/start")));
  const namesOfTrace = (): ReadonlySet<string> =>
    new Set(collector.spans.filter(({ traceId }) => traceId === request.traceId).map(({ name }) => name));
  const wanted = [
    ...["sockerless.backend.v1.ContainerService/StartContainer", "ecs RunTask"],
    ...["request", "provisioning", "pull", "agent"].map((phase) => `start: ${phase}`),
  ];
  const names = await until(() => {
    const told = namesOfTrace();
    return wanted.every((name) => told.has(name)) ? told : undefined;
  }).catch(() => namesOfTrace());
  assert.deepEqual(
    wanted.filter((name) => !names.has(name)),
    [],
    [...names].join("\n"),
  );
});
