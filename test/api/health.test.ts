/** Health checks: run by the agent on their schedule, told by inspect, lists and events. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { callApi } from "../support/call-api.ts";
import { pastEvents } from "../support/past-events.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok } = withDaemon();

interface Health {
  readonly Status: string;
  readonly FailingStreak: number;
  readonly Log: readonly {
    readonly Start: string;
    readonly End: string;
    readonly ExitCode: number;
    readonly Output: string;
  }[];
}

const healthOf = async (container: string) =>
  JSON.parse(await ok("inspect", "--format", "{{json .State.Health}}", container)) as Health | null;

/** Waits until a container's health is as it should be. */
const healthBecomes = (container: string, holds: (health: Health) => boolean) =>
  until(async () => {
    const health = await healthOf(container);
    return health !== null && holds(health) ? health : undefined;
  });

const run = (name: string, flags: readonly string[], ...command: string[]) =>
  ok("run", "-d", "--name", name, ...flags, "busybox", ...(command.length > 0 ? command : ["sleep", "1000"]));

const often = ["--health-interval", "50ms"];

async function healthEventsOf(id: string): Promise<string[]> {
  const events = await pastEvents(daemon, { container: [id] });
  return events.map(({ Action }) => Action).filter((action) => action.startsWith("health_status"));
}

describe("a container with a health check", () => {
  test("is starting, becomes healthy, and unhealthy after as many failures as retries", async () => {
    const id = await run("changing", [
      ...often,
      "--health-cmd",
      // The first check lasts until the test has looked at the health before it.
      "until test -e /tmp/seen; do sleep 0.02; done; echo looked; test -e /tmp/well",
      "--health-retries",
      "2",
    ]);
    assert.equal((await healthOf("changing"))?.Status, "starting");
    await ok("exec", "changing", "touch", "/tmp/well", "/tmp/seen");
    await healthBecomes("changing", ({ Status }) => Status === "healthy");
    const status = () => ok("ps", "--filter", "name=changing", "--format", "{{.Status}}");
    assert.match(await status(), /^Up .* \(healthy\)$/);
    assert.equal(await ok("ps", "--filter", "health=healthy", "--quiet", "--no-trunc"), id);
    await ok("exec", "changing", "rm", "/tmp/well");
    const health = await healthBecomes("changing", ({ Status }) => Status === "unhealthy");
    assert.ok(health.FailingStreak >= 2);
    assert.match(await status(), /^Up .* \(unhealthy\)$/);
    const last = health.Log.at(-1);
    assert.deepEqual([last?.ExitCode, last?.Output], [1, "looked\n"]);
    assert.deepEqual((await healthEventsOf(id)).slice(-2), [
      "health_status: healthy",
      "health_status: unhealthy",
    ]);
    await ok("rm", "--force", "changing");
  });

  test("shows its last five results, each of at most 4,096 bytes", async () => {
    await run("verbose", [...often, "--health-cmd", "echo $((++n)); head -c 6000 /dev/zero | tr '\\0' x"]);
    const first = await healthBecomes("verbose", ({ Log }) => Log.length >= 2);
    const begun = first.Log[0]?.Start;
    const { Log } = await healthBecomes(
      "verbose",
      (health) => !health.Log.some(({ Start }) => Start === begun),
    );
    assert.equal(Log.length, 5);
    assert.equal(Log[0]?.Output.length, 4096);
    assert.match(Log[0]?.Output ?? "", /^1\nx+\.\.\.$/);
    const answer = await callApi(daemon.socket, "GET", "/v1.51/containers/verbose/json");
    assertDescribed("get", "/containers/{id}/json", 200, answer.json(), {
      undescribed: ["Running", "StartPhases"],
    });
    await ok("rm", "--force", "verbose");
  });

  test("whose check takes too long, or cannot be run, says so", async () => {
    await run("slow", [
      ...[...often, "--health-cmd", "echo begun; sleep 1000", "--health-timeout", "1s"],
      ...["--health-retries", "1"],
    ]);
    const late = await healthBecomes("slow", ({ Status }) => Status === "unhealthy");
    assert.ok(late.Log.every(({ ExitCode }) => ExitCode === -1));
    // On a machine with other work a check may be killed before it has said anything.
    await healthBecomes("slow", ({ Log }) =>
      Log.some(({ Output }) => Output === "Health check exceeded timeout (1s): begun\n"),
    );
    const body = {
      Image: "busybox",
      Cmd: ["sleep", "1000"],
      Healthcheck: { Test: ["CMD", "nosuch"], Interval: 50_000_000, Retries: 1 },
    };
    const created = await callApi(daemon.socket, "POST", "/v1.51/containers/create?name=missing", {
      body,
    });
    assert.equal(created.status, 201, created.text);
    await ok("start", "missing");
    const failed = await healthBecomes("missing", ({ Status }) => Status === "unhealthy");
    assert.equal(failed.Log[0]?.ExitCode, -1);
    assert.match(failed.Log[0]?.Output ?? "", /exec: "nosuch": executable file not found in \$PATH/);
    await ok("rm", "--force", "slow", "missing");
  });

  test("is checked without a shell by CMD, as the container's user, with its environment", async () => {
    const body = {
      Image: "busybox",
      User: "app",
      Env: ["GREETING=hello"],
      WorkingDir: "/var/tmp",
      Cmd: ["sleep", "1000"],
      Healthcheck: {
        Test: ["CMD", "sh", "-c", 'echo "$GREETING $(id -un) $(pwd) $0 $1"', "a b", "c"],
        Interval: 50_000_000,
      },
    };
    const created = await callApi(daemon.socket, "POST", "/v1.51/containers/create?name=exact", {
      body,
    });
    assert.equal(created.status, 201, created.text);
    await ok("start", "exact");
    const health = await healthBecomes("exact", ({ Status }) => Status === "healthy");
    assert.equal(health.Log[0]?.Output, "hello app /var/tmp a b c\n");
    await ok("rm", "--force", "exact");
  });

  test("counts no failure in its start period, and is then checked at the start interval", async () => {
    const period = [
      "--health-start-period",
      "1h",
      "--health-start-interval",
      "50ms",
      "--health-interval",
      "1h",
    ];
    await run("warming", [...period, "--health-cmd", "test -e /tmp/well", "--health-retries", "1"]);
    const starting = await healthBecomes("warming", ({ Log }) => Log.length === 5);
    assert.deepEqual([starting.Status, starting.FailingStreak], ["starting", 0]);
    const status = await ok("ps", "--filter", "name=warming", "--format", "{{.Status}}");
    assert.match(status, /^Up .* \(health: starting\)$/);
    await ok("exec", "warming", "touch", "/tmp/well");
    const healthy = await healthBecomes("warming", ({ Status }) => Status === "healthy");
    assert.equal(healthy.Log.at(-1)?.ExitCode, 0);
    await ok("rm", "--force", "warming");
  });

  test("is not checked while it is paused, nor after its end", async () => {
    await run("held", [...often, "--health-cmd", "true"]);
    await healthBecomes("held", ({ Status }) => Status === "healthy");
    await ok("pause", "held");
    assert.equal((await healthOf("held"))?.Status, "unhealthy");
    await ok("unpause", "held");
    await healthBecomes("held", ({ Status }) => Status === "healthy");
    await ok("kill", "held");
    await ok("wait", "held"); // the kill is answered when the signal was sent
    assert.equal((await healthOf("held"))?.Status, "unhealthy");
    await ok("start", "held");
    const restarted = await healthOf("held");
    assert.equal(restarted?.FailingStreak, 0);
    assert.match(restarted?.Status ?? "", /^(starting|healthy)$/);
    await healthBecomes("held", ({ Status }) => Status === "healthy");
    await ok("rm", "--force", "held");
  });

  test("keeps its health and its schedule through a restart of the daemon", async () => {
    await run("lasting", [...often, "--health-cmd", "true"]);
    const before = await healthBecomes("lasting", ({ Status }) => Status === "healthy");
    await daemon.shutDown();
    await daemon.launch();
    const known = new Set(before.Log.map(({ Start }) => Start));
    const after = await healthBecomes("lasting", ({ Log }) => !Log.some(({ Start }) => known.has(Start)));
    assert.equal(after.Status, "healthy");
    await ok("rm", "--force", "lasting");
  });
});

test("without a health check there is no health", async () => {
  await run("plain", []);
  await run("declined", ["--no-healthcheck"]);
  assert.equal(await healthOf("plain"), null);
  assert.equal(await healthOf("declined"), null);
  assert.match(await ok("ps", "--filter", "name=plain", "--format", "{{.Status}}"), /^Up [^()]*$/);
  await ok("rm", "--force", "plain", "declined");
});
