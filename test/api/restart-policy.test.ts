/** `docker run --restart`: which ends of a container are followed by a start. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";

import { backendUnderTest } from "../support/backend-under-test.ts";
import { pastEvents } from "../support/past-events.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok, inspect } = withDaemon();
const run = (name: string, policy: string, script: string, ...flags: string[]) =>
  ok("run", "-d", "--name", name, "--restart", policy, ...flags, "busybox", "sh", "-c", script);
/** Lets a container end that waits for this; its end may take the exec along. */
const letEnd = (container: string) => daemon.docker("exec", container, "touch", "/tmp/end");
const stateBecomes = (container: string, status: string) =>
  until(async () => ((await inspect(container, "{{.State.Status}}")) === status ? true : undefined));

/** Times of a container's events of one kind, in ms. */
async function timesOf(id: string, action: string): Promise<number[]> {
  const events = await pastEvents(daemon, { container: [id], event: [action] });
  return events.map(({ timeNano }) => timeNano / 1e6);
}

describe("a restart policy", () => {
  test("on-failure gives up after as many tries as it names, waiting twice as long each time", async () => {
    const id = await run("failing", "on-failure:3", "exit 7");
    await stateBecomes("failing", "exited");
    assert.equal(await inspect("failing", "{{.RestartCount}} {{.State.ExitCode}}"), "3 7");
    const deaths = await timesOf(id, "die");
    const starts = await timesOf(id, "start");
    assert.deepEqual([starts.length, deaths.length], [4, 4]);
    const waits = deaths.slice(0, 3).map((death, n) => (starts[n + 1] ?? 0) - death);
    for (const [n, wait] of waits.entries()) {
      assert.ok(wait >= 100 * 2 ** n, `${n}: ${waits}`);
    }
    await ok("rm", "failing");
  });

  test("on-failure does not start again what ended well", async () => {
    await run("content", "on-failure", "exit 0");
    await stateBecomes("content", "exited");
    assert.equal(await inspect("content", "{{.RestartCount}}"), "0");
    await ok("rm", "content");
  });

  test("always starts again whatever the end, until a user stops it", async () => {
    const id = await run("steady", "always", "test -e /stay && exec sleep 1000; touch /ran; sleep 0.1");
    await until(async () => (Number(await inspect("steady", "{{.RestartCount}}")) >= 2 ? true : undefined));
    await ok("stop", "--time", "1", "steady");
    assert.equal(await inspect("steady", "{{.State.Status}} {{.State.Restarting}}"), "exited false");
    // In a cloud it may have ended a start, which has failed then, and there was nothing to stop.
    const [stop = backendUnderTest() === "local" ? 0 : Date.now()] = await timesOf(id, "stop");
    const starts = await timesOf(id, "start");
    assert.ok(
      starts.every((start) => start < stop),
      `${starts}, ${stop}`,
    );
    // From now on it runs until it is removed.
    await ok("cp", "steady:/ran", join(daemon.directory, "stay"));
    await ok("cp", join(daemon.directory, "stay"), "steady:/stay");
    await ok("start", "steady");
    assert.equal(await inspect("steady", "{{.RestartCount}}"), "0");
    await ok("rm", "--force", "steady");
  });

  test("shows a container that waits for its restart as restarting, and lets it be stopped and removed", async () => {
    const id = await run("crashing", "always", "exit 5");
    const seen = await until(async () => {
      const text = await inspect(
        "crashing",
        "{{.State.Status}} {{.State.Running}} {{.State.Restarting}} {{.State.ExitCode}}",
      );
      return text.startsWith("restarting") ? text : undefined;
    });
    assert.equal(seen, "restarting true true 5");
    await until(async () => {
      const status = await ok("ps", "--filter", "name=crashing", "--format", "{{.Status}}");
      return /^Restarting \(5\) .* ago$/.test(status) ? true : undefined;
    });
    // Its waits grow: soon it is met in one.
    const refused = await until(async () => {
      const result = await daemon.docker("exec", "crashing", "true");
      return result.errorText.includes("restarting") ? result.errorText : undefined;
    });
    assert.match(refused, new RegExp(`Container ${id} is restarting, wait until the container is running`));
    await ok("stop", "crashing");
    assert.equal(await inspect("crashing", "{{.State.Status}}"), "exited");
    await ok("start", "crashing");
    await ok("rm", "--force", "crashing");
    assert.equal(await ok("ps", "--all", "--quiet", "--filter", "name=crashing"), "");
  });

  test("survives a signal that is not to end the container", async () => {
    const script = "trap : USR1; echo up; while test ! -e /tmp/end; do sleep 0.02; done; rm /tmp/end";
    await run("signalled", "always", script, "--stop-signal", "TERM");
    await until(async () => ((await ok("logs", "signalled")) === "up" ? true : undefined));
    await ok("kill", "--signal", "USR1", "signalled");
    await letEnd("signalled");
    await until(async () => ((await inspect("signalled", "{{.RestartCount}}")) === "1" ? true : undefined));
    await ok("rm", "--force", "signalled");
  });

  test("can be changed while the container runs", async () => {
    await run("mutable", "no", "while test ! -e /tmp/end; do sleep 0.02; done; rm /tmp/end");
    await ok("update", "--restart", "always", "mutable");
    await letEnd("mutable");
    await until(async () => ((await inspect("mutable", "{{.RestartCount}}")) === "1" ? true : undefined));
    await ok("update", "--restart", "no", "mutable");
    await stateBecomes("mutable", "running");
    await letEnd("mutable");
    await stateBecomes("mutable", "exited");
    await ok("rm", "mutable");
  });

  test("is kept when the daemon starts: what a user stopped stays so, but for always", async () => {
    const sleeping = "exec sleep 1000";
    await run("kept-always", "always", sleeping);
    await run("kept-unless", "unless-stopped", sleeping);
    await run("kept-no", "no", sleeping);
    await run("kept-running", "unless-stopped", sleeping);
    await ok("kill", "kept-always", "kept-unless", "kept-no");
    const pid = await inspect("kept-running", "{{.State.Pid}}");
    await ok("create", "--name", "kept-new", "--restart", "always", "busybox", "sh", "-c", sleeping);
    await daemon.shutDown();
    await daemon.launch();
    await stateBecomes("kept-always", "running");
    for (const name of ["kept-unless", "kept-no"]) {
      assert.equal(await inspect(name, "{{.State.Status}}"), "exited", name);
    }
    assert.equal(await inspect("kept-new", "{{.State.Status}}"), "created");
    assert.equal(await inspect("kept-running", "{{.State.Pid}}"), pid);
    await ok("rm", "--force", "kept-always", "kept-unless", "kept-no", "kept-running", "kept-new");
  });
});
