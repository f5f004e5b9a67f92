/**
 * Starts that the account's quota of vCPUs has no room for: how they wait, what a user sees, and how they end. Those that
 * wait long do so with SOCKERLESS_SOAK=1 only.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, it } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { askMetrics, sumOf } from "../support/metrics.ts";
import { untilTrue } from "../support/until.ts";
import { inSoak, isSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

const startTimeoutS = 8;
const skip = isSoak ? false : "only with SOCKERLESS_SOAK=1: it takes half a minute";

describe("where the quota has room for one task", () => {
  const metrics = join(scratchDirectory(), "metrics.sock");
  const ecs = duringTests(() =>
    EcsDaemon.start({
      daemon: { args: ["--metrics-addr", `unix://${metrics}`] },
      aws: { quotas: { fargateVcpus: 0.25 } },
      ecs: skip === false ? { start_timeout: `${startTimeoutS}s` } : {},
    }),
  );

  const ok = (...args: string[]) => ecs.daemon.ok(...args);
  const vcpus = async (what: "limit" | "used"): Promise<number> =>
    sumOf((await askMetrics(metrics, "/metrics")).text, `sockerless_cloud_quota_${what}`, {
      quota: "fargate_vcpus",
    });
  const state = (container: string, format: string) => ok("inspect", "--format", format, container);
  const waits = (container: string) =>
    untilTrue(async () =>
      /^waits to be started: .*limit on the number of vCPUs/.test(await state(container, "{{.State.Error}}")),
    );

  it("one that never fits is refused at its creation", async () => {
    const { code, errorText } = await ecs.daemon.docker("create", "--cpus=1", "busybox", "true");
    assert.equal(code, 1);
    assert.match(errorText, /needs 1 vCPU, and the account may run 0\.25 at once: .*L-3032A538/);
    assert.equal(await ok("ps", "--all", "--quiet"), "");
  });

  it("one that waits says so in a listing and by an event", async () => {
    assert.deepEqual([await vcpus("limit"), await vcpus("used")], [0.25, 0]);
    await ok("run", "--detach", "--name=one", "busybox", "sleep", "600");
    assert.equal(await vcpus("used"), 0.25);
    const next = ok("run", "--detach", "--name=next", "busybox", "sleep", "600");
    await untilTrue(async () =>
      /^Created \(waits: .*vCPUs/.test(await ok("ps", "--all", "--filter=name=next", "--format={{.Status}}")),
    );
    assert.equal(await ok("ps", "--filter=name=next", "--quiet"), "");
    const { errorText } = await ecs.daemon.docker("create", "--name=third", "busybox", "true");
    assert.match(errorText, /^WARNING: another container waits to be started, and this one may .*vCPUs/m);
    await ok("rm", "third");
    const past = ["events", "--since=0", "--until=0s", "--filter=container=next"];
    await untilTrue(async () => /reason=.*vCPUs/.test(await ok(...past, "--filter=event=start_waits")));
    await ok("rm", "--force", "one");
    await next;
    await untilTrue(async () =>
      (await ok(...past, "--filter=event=start_phase")).includes("start_phase: wait"),
    );
    assert.match(await ok("ps", "--filter=name=next", "--format={{.Status}}"), /^Up /);
    await ok("rm", "--force", "next");
  });

  it("the next ones wait longer than a start may take", { skip }, async () => {
    await ok("run", "--detach", "--name=one", "busybox", "sleep", "600");
    const next = ok("run", "--detach", "--name=next", "busybox", "sleep", "600");
    await untilTrue(async () => (await ok("ps", "--all", "--format", "{{.Names}}")).includes("next"));
    await waits("next");
    const waitedSince = performance.now();
    await untilTrue(async () => performance.now() - waitedSince > startTimeoutS * 1000);
    assert.equal(await state("next", "{{.State.Status}}"), "created");

    await ok("rm", "--force", "one");
    await next;
    assert.equal(await state("next", "{{.State.Status}} {{.State.Error}}"), "running ");

    await ok("rm", "--force", "next");
  });

  it("a docker run that is interrupted while it waits leaves nothing", async () => {
    await ok("run", "--detach", "--name=one", "busybox", "sleep", "600");
    const args = ["run", "--rm", "--name=hasty", "busybox", "true"];
    const run = spawn("docker", args, { env: ecs.daemon.clientEnv, stdio: "ignore" });
    const ended = once(run, "exit");
    await untilTrue(async () => (await ok("ps", "--all", "--format", "{{.Names}}")).includes("hasty"));
    await waits("hasty");
    run.kill("SIGINT");
    const [code] = await ended;
    assert.notEqual(code, 0);
    await untilTrue(async () => !(await ok("ps", "--all", "--format", "{{.Names}}")).includes("hasty"));
    await ok("rm", "--force", "one");
  });

  it("a client that leaves gives its start up", async () => {
    await ok("run", "--detach", "--name=one", "busybox", "sleep", "600");
    await ok("create", "--name=left", "busybox", "sleep", "600");
    const start = spawn("docker", ["start", "left"], { env: ecs.daemon.clientEnv, stdio: "ignore" });
    const ended = once(start, "exit");
    await waits("left");
    start.kill("SIGKILL");
    await ended;
    await untilTrue(async () => /was given up while it waited/.test(await state("left", "{{.State.Error}}")));
    await ok("rm", "--force", "one");
    await ok("start", "left");
    await ok("rm", "--force", "left");
  });
});

describe("where nobody may read the quota", inSoak, () => {
  it("a container that is larger fails after one answer, and one behind another waits", async () => {
    await using ecs = await EcsDaemon.start({
      aws: { quotas: { fargateVcpus: 0.25 } },
      ecs: async ({ faults }) => {
        const error = { code: "AccessDeniedException", message: "is not authorized", status: 400 };
        faults.add({ on: "service-quotas.GetServiceQuota", times: Infinity, error });
        return {};
      },
    });
    const ok = (...args: string[]) => ecs.daemon.ok(...args);
    const { code, errorText } = await ecs.daemon.docker("run", "--cpus=1", "busybox", "true");
    assert.equal(code, 125);
    assert.match(
      errorText,
      /limit on the number of vCPUs.*; no task is in the cluster whose end would make room/,
    );
    assert.equal(ecs.aws.calls.count("ecs.RunTask"), 1);

    await ok("run", "--detach", "--name=one", "busybox", "sleep", "600");
    const next = ok("run", "--rm", "--name=next", "busybox", "echo", "at last");
    await untilTrue(async () =>
      /vCPUs/.test(await ok("ps", "--all", "--filter=name=next", "--format={{.Status}}")),
    );
    await ok("rm", "--force", "one");
    assert.equal(await next, "at last");
  });
});
