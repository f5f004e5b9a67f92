/** Events of what clients do with streams, which go past the backend, and of the probes of health checks. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { pastEvents, type ToldEvent } from "../support/past-events.ts";
import { hijackRequest, RawClient } from "../support/raw-client.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok, api } = withDaemon();
const eventsOf = (id: string) => pastEvents(daemon, { container: [id], type: ["container"] });
const actionsOf = async (id: string) => (await eventsOf(id)).map(({ Action }) => Action);

describe("a client that types its detach keys", () => {
  // The docker CLI looks for the keys itself and hangs up; other clients leave that to the daemon.
  const detachKeys = "\x10\x11";

  test("is told of by detach, and one that stays to the end is not", async () => {
    const id = await ok("run", "-dit", "--name", "left", "busybox", "sh");
    const attach = `/v1.51/containers/${id}/attach?stream=1&stdin=1&stdout=1`;
    const first = new RawClient(daemon.socket).send(hijackRequest(attach));
    await first.answered();
    first.send(detachKeys);
    await first.end();
    first.close();
    assert.deepEqual((await actionsOf(id)).slice(-2), ["attach", "detach"]);
    const second = new RawClient(daemon.socket).send(hijackRequest(attach));
    await second.answered();
    second.send("exit\r");
    await second.end();
    second.close();
    assert.equal(await ok("wait", "left"), "0");
    assert.equal((await actionsOf(id)).filter((action) => action === "detach").length, 1);
    await ok("rm", "left");
  });

  test("leaves an exec with exec_detach, which names it, and the exec goes on", async () => {
    const id = await ok("run", "-d", "--init", "busybox", "sleep", "1000");
    const settings = { AttachStdin: true, AttachStdout: true, Tty: true, Cmd: ["sh"] };
    const made = await api.call("POST", `/containers/${id}/exec`, settings);
    const execID = (made.json() as { Id: string }).Id;
    const body = JSON.stringify({ Tty: true });
    const client = new RawClient(daemon.socket).send(hijackRequest(`/v1.51/exec/${execID}/start`, { body }));
    await client.says("# ");
    client.send(detachKeys);
    await client.end();
    client.close();
    const told = (await eventsOf(id)).filter(({ Action }) => Action.startsWith("exec_"));
    assert.deepEqual(
      told.map(({ Action, Actor }) => [Action, Actor.Attributes["execID"]]),
      [
        ["exec_create: sh ", execID],
        ["exec_start: sh ", execID],
        ["exec_detach", execID],
      ],
    );
    assert.equal(
      ((await api.call("GET", `/exec/${execID}/json`)).json() as { Running: boolean }).Running,
      true,
    );
    await ok("rm", "--force", id);
  });
});

describe("docker cp", () => {
  test("out tells archive-path, in tells extract-to-dir, and what fails tells nothing", async () => {
    const id = await ok("run", "--detach", "--name", "copied", "busybox", "sleep", "1000");
    await ok("cp", "copied:/etc/passwd", "-");
    assert.deepEqual(await actionsOf(id), ["create", "start", "archive-path"]);
    await ok("cp", "/etc/hostname", "copied:/tmp/name");
    assert.deepEqual((await actionsOf(id)).slice(3), ["extract-to-dir"]);
    assert.notEqual((await daemon.docker("cp", "copied:/nowhere", "-")).code, 0);
    const damaged = await api.call("PUT", "/containers/copied/archive?path=/tmp", Buffer.alloc(600, "x"));
    assert.equal(damaged.status, 500);
    assert.equal((await actionsOf(id)).length, 4);
    await ok("rm", "--force", "copied");
  });
});

describe("a health check's probe", () => {
  /** The events of execs of which one has this last action, with their attributes. */
  const probeOf = async (id: string, last: string): Promise<ToldEvent[]> =>
    until(async () => {
      const told = (await eventsOf(id)).filter(({ Action }) => Action.startsWith("exec_"));
      const execId = told.find(({ Action }) => Action === last)?.Actor.Attributes["execID"];
      return execId === undefined
        ? undefined
        : told.filter(({ Actor }) => Actor.Attributes["execID"] === execId);
    });
  const often = ["--health-interval", "50ms"];

  test("is an exec that is made, started, and ends with its code", async () => {
    const id = await ok("run", "-d", "--init", ...often, "--health-cmd=exit 3", "busybox", "sleep", "1000");
    const probe = await probeOf(id, "exec_die");
    assert.deepEqual(
      probe.map(({ Action }) => Action),
      ["exec_create: /bin/sh -c exit 3", "exec_start: /bin/sh -c exit 3", "exec_die"],
    );
    assert.match(probe[0]?.Actor.Attributes["execID"] ?? "", /^[0-9a-f]{64}$/);
    assert.equal(probe[2]?.Actor.Attributes["exitCode"], "3");
    await ok("rm", "--force", id);
  });

  test("is killed at its timeout", async () => {
    const timeout = ["--health-timeout", "100ms", "--health-cmd", "sleep 100"];
    const id = await ok("run", "-d", "--init", ...often, ...timeout, "busybox", "sleep", "1000");
    assert.equal((await probeOf(id, "exec_die")).at(-1)?.Actor.Attributes["exitCode"], "137");
    await ok("rm", "--force", id);
  });
});
