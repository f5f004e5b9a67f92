import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { fromUnknown } from "../../../../../common/errors.ts";
import { HealthResultSchema, StartFailureSchema } from "../../../../../gen/sockerless/agent/v1/agent_pb.ts";
import {
  ContainerConfigSchema,
  HealthConfigSchema,
  RestartPolicySchema,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerStatus,
  type Health,
  HealthStatus,
} from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { agentHealthCheck, healthAfter } from "./health.ts";
import { execRefusal, removeRefusal, startRefusal, stopRefusal } from "./refusals.ts";
import { nextRestartDelay, restarts } from "./restart-policy.ts";
import { startFailureError } from "./start-failure.ts";
import { startFailed, startNotMade } from "./transitions.ts";

const record = (status: ContainerStatus) => create(ContainerRecordSchema, { id: "abc", state: { status } });
const kindAndText = (error: Error | undefined) =>
  error === undefined ? "allowed" : `${fromUnknown(error).kind}: ${error.message}`;

describe("operations that a state refuses", () => {
  const { CREATED, RUNNING, PAUSED, RESTARTING, EXITED, REMOVING, DEAD } = ContainerStatus;

  it("start", () => {
    const start = (status: ContainerStatus, removing = false) =>
      kindAndText(startRefusal(record(status), removing));
    assert.equal(start(CREATED), "allowed");
    assert.equal(start(EXITED), "allowed");
    assert.equal(start(RUNNING), "not-modified: container is already running");
    assert.equal(start(RESTARTING), "not-modified: container is already running");
    assert.equal(start(PAUSED), "conflict: cannot start a paused container, try unpause instead");
    for (const refused of [start(DEAD), start(REMOVING), start(EXITED, true)]) {
      assert.equal(refused, "conflict: container is marked for removal and cannot be started");
    }
  });

  it("stop, exec and remove", () => {
    assert.equal(kindAndText(stopRefusal(record(EXITED))), "not-modified: container is already stopped");
    assert.equal(kindAndText(execRefusal(record(EXITED), "x")), "conflict: container abc is not running");
    assert.equal(
      kindAndText(execRefusal(record(PAUSED), "x")),
      "conflict: Container x is paused, unpause the container before exec",
    );
    assert.equal(
      kindAndText(removeRefusal(record(PAUSED), "x")),
      'conflict: cannot remove container "x": container is paused and must be unpaused first',
    );
    assert.equal(kindAndText(removeRefusal(record(EXITED), "x")), "allowed");
  });
});

describe("a start that failed", () => {
  const { CREATED } = ContainerStatus;
  const failed = (exitCode: number, message: string) =>
    startFailureError(create(StartFailureSchema, { exitCode, message }));

  it("is the request's fault where the command is, else ours", () => {
    assert.equal(failed(127, "exec: x: executable file not found in $PATH").kind, "invalid");
    assert.equal(failed(126, "exec: x: permission denied").kind, "invalid");
    assert.equal(failed(128, "something else").kind, "system");
  });

  it("carries the words by which clients tell 126 from 127", () => {
    assert.match(failed(126, "exec: /bin: is a directory").message, /permission denied$/);
    assert.doesNotMatch(failed(127, "x: no such file or directory").message, /permission denied/);
  });

  it("leaves no more than a header's worth of an agent's words in the record", () => {
    const words = "x".repeat(4_000_000);
    for (const failed of [startFailed(record(CREATED), 128, words), startNotMade(record(CREATED), words)]) {
      assert.ok((failed.state?.error.length ?? 0) < 60_000);
    }
    assert.equal(startFailed(record(CREATED), 128, "no such user").state?.error, "no such user");
  });
});

describe("a restart policy", () => {
  const policy = (name: string, maximumRetryCount = 0) =>
    create(RestartPolicySchema, { name, maximumRetryCount });
  const exit = { code: 1, stoppedByUser: false, restartCount: 0 };

  it("starts again what it is meant for, never what a user stopped", () => {
    assert.equal(restarts(policy("no"), exit), false);
    assert.equal(restarts(policy("always"), { ...exit, code: 0 }), true);
    assert.equal(restarts(policy("always"), { ...exit, stoppedByUser: true }), false);
    assert.equal(restarts(policy("unless-stopped"), exit), true);
    assert.equal(restarts(policy("on-failure"), { ...exit, code: 0 }), false);
    assert.equal(restarts(policy("on-failure", 3), { ...exit, restartCount: 2 }), true);
    assert.equal(restarts(policy("on-failure", 3), { ...exit, restartCount: 3 }), false);
  });

  it("waits twice as long from crash to crash, up to a minute, and forgets after ten good seconds", () => {
    assert.equal(nextRestartDelay(0, 5), 100);
    assert.equal(nextRestartDelay(100, 5), 200);
    assert.equal(nextRestartDelay(51_200, 5), 60_000);
    assert.equal(nextRestartDelay(51_200, 10_000), 100);
  });
});

describe("health", () => {
  const config = create(HealthConfigSchema, {
    test: ["CMD-SHELL", "check"],
    retries: 2,
    startPeriod: 10_000_000_000n,
  });
  const started = timestampFromMs(0);
  const result = (exitCode: number, atMs: number) =>
    create(HealthResultSchema, { exitCode, start: timestampFromMs(atMs), end: timestampFromMs(atMs + 1) });
  const after = (...results: readonly (readonly [number, number])[]) =>
    results.reduce<Health | undefined>(
      (health, [code, at]) => healthAfter(health, config, started, result(code, at)),
      undefined,
    );

  it("is healthy at the first success and unhealthy after as many failures as retries", () => {
    assert.equal(after([0, 20_000])?.status, HealthStatus.HEALTHY);
    assert.equal(after([0, 20_000], [1, 30_000])?.status, HealthStatus.HEALTHY);
    assert.equal(after([0, 20_000], [1, 30_000], [1, 40_000])?.status, HealthStatus.UNHEALTHY);
    assert.equal(after([0, 20_000], [1, 30_000], [1, 40_000], [0, 50_000])?.failingStreak, 0);
  });

  it("does not count failures in the start period", () => {
    const health = after([1, 1_000], [1, 2_000], [1, 3_000]);
    assert.deepEqual([health?.status, health?.failingStreak], [HealthStatus.STARTING, 0]);
  });

  it("keeps the last five results", () => {
    const health = after(...Array.from({ length: 9 }, (_, n) => [0, n * 1000] as const));
    assert.equal(health?.log.length, 5);
  });

  it("is checked by the agent in the image's shell, with Docker's defaults", () => {
    const check = agentHealthCheck(
      create(ContainerConfigSchema, { healthcheck: config, shell: { values: ["/bin/bash", "-c"] } }),
    );
    assert.deepEqual(check?.args, ["/bin/bash", "-c", "check"]);
    assert.equal(check?.intervalNs, 30_000_000_000n);
    assert.equal(
      agentHealthCheck(create(ContainerConfigSchema, { healthcheck: { test: ["NONE"] } })),
      undefined,
    );
  });
});
