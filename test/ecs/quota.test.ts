/**
 * Starts that the account's quota of vCPUs has no room for: how they wait, what a user sees, and how they end. Those that
 * wait long do so with SOCKERLESS_SOAK=1 only.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";

import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { untilTrue } from "../support/until.ts";

const startTimeoutS = 8;
const skip =
  process.env["SOCKERLESS_SOAK"] === "1" ? false : "only with SOCKERLESS_SOAK=1: it takes half a minute";

describe("where the quota has room for one task", () => {
  let ecs: EcsDaemon;
  before(async () => {
    ecs = await EcsDaemon.start({
      aws: { quotas: { fargateVcpus: 0.25 } },
      ecs: skip === false ? { start_timeout: `${startTimeoutS}s` } : {},
    });
    await ecs.daemon.ok("load", "--input", await busyboxArchiveFile());
  });
  after(() => ecs.stop());

  const ok = (...args: string[]) => ecs.daemon.ok(...args);
  const state = (container: string, format: string) => ok("inspect", "--format", format, container);
  const waits = (container: string) =>
    untilTrue(async () =>
      /^waits to be started: .*limit on the number of vCPUs/.test(await state(container, "{{.State.Error}}")),
    );

  it("the next ones wait longer than a start may take, and one that never fits fails with AWS's words", {
    skip,
  }, async () => {
    await ok("run", "--detach", "--name=one", "busybox", "sleep", "600");
    const next = ok("run", "--detach", "--name=next", "busybox", "sleep", "600");
    await untilTrue(async () => (await ok("ps", "--all", "--format", "{{.Names}}")).includes("next"));
    const large = ecs.daemon.docker("run", "--name=large", "--cpus=1", "busybox", "true");
    await untilTrue(async () => (await ok("ps", "--all", "--format", "{{.Names}}")).includes("large"));
    await Promise.all([waits("next"), waits("large")]);
    const waitedSince = performance.now();
    await untilTrue(async () => performance.now() - waitedSince > startTimeoutS * 1000);
    assert.equal(await state("next", "{{.State.Status}}"), "created");

    await ok("rm", "--force", "one");
    await next;
    assert.equal(await state("next", "{{.State.Status}} {{.State.Error}}"), "running ");

    await ok("rm", "--force", "next");
    const { code, errorText } = await large;
    assert.equal(code, 125);
    assert.match(errorText, /limit on the number of vCPUs.*for \d+ s \(ecs\.start_timeout\) no task has run/);
    await ok("rm", "large");
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
