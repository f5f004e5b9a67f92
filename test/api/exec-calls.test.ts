/** `/containers/{id}/exec` and `/exec/{id}/…` as clients call them, with what may go wrong. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, test } from "node:test";

import { onlyOn } from "../support/backend-under-test.ts";
import type { Creation } from "../support/engine-api.ts";
import { channelText, hijackRequest, type RawClient } from "../support/raw-client.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

interface ExecDetail {
  readonly Running: boolean;
  readonly ExitCode: number | null;
  readonly Pid: number;
}

const sleeping = (creation: Creation = {}) => api.run({ Cmd: ["sleep", "1000"], ...creation });
const inspect = (exec: string) => api.expect<ExecDetail>(200, "GET", `/exec/${exec}/json`);

async function createExec(container: string, config: object): Promise<string> {
  return (await api.expect<{ Id: string }>(201, "POST", `/containers/${container}/exec`, config)).Id;
}

/** Starts an exec and takes its connection. */
async function started(exec: string, start: object = {}): Promise<RawClient> {
  const client = api.connect();
  client.send(hijackRequest(`/v1.51/exec/${exec}/start`, { body: JSON.stringify(start) }));
  await client.answered();
  return client;
}

const output = { AttachStdout: true, AttachStderr: true };

/** Runs a shell's script to its end. */
async function outputOf(container: string, script: string, config: object = {}): Promise<string> {
  const client = await started(
    await createExec(container, { Cmd: ["sh", "-c", script], ...output, ...config }),
  );
  await client.end();
  client.close();
  return channelText(client.body, 1);
}

describe("an exec", () => {
  test("cannot be made without a command, or where nothing runs", async () => {
    const id = await api.create({ Cmd: ["sleep", "1000"] });
    const make = ["POST", `/containers/${id}/exec`] as const;
    await api.refuses(409, `container ${id} is not running`, ...make, { Cmd: ["true"] });
    await api.start(id);
    await api.refuses(400, "No exec command specified", ...make, {});
    await api.refuses(400, "No exec command specified", ...make, { Cmd: [] });
    await api.refuses(400, /./, ...make, "{");
    await api.refuses(404, "No such container: nobody", "POST", "/containers/nobody/exec", { Cmd: ["true"] });
    await api.expect(204, "POST", `/containers/${id}/pause`);
    await api.refuses(409, `Container ${id} is paused, unpause the container before exec`, ...make, {
      Cmd: ["true"],
    });
    await api.remove(id);
  });

  test("that nobody knows is not found by any call", async () => {
    for (const [method, path, body] of [
      ["GET", "/exec/nobody/json", undefined],
      ["POST", "/exec/nobody/start", {}],
      ["POST", "/exec/nobody/resize?h=1&w=1", undefined],
    ] as const) {
      await api.refuses(404, "No such exec instance: nobody", method, path, body);
    }
  });

  test("starts once", async () => {
    const id = await sleeping();
    const exec = await createExec(id, {
      Cmd: ["sh", "-c", "read line; exit 3"],
      AttachStdin: true,
      ...output,
    });
    const client = await started(exec);
    /** Asserts the reason of a refusal, which clients find in the stream of a start that is not detached. */
    const refused = async (reason: string): Promise<void> => {
      const second = await started(exec);
      await second.end();
      second.close();
      assert.match(second.header, /^HTTP\/1.1 101 /);
      assert.equal(channelText(second.body, 1), `exec command ${exec} ${reason}\r\n`);
      await api.refuses(409, `exec command ${exec} ${reason}`, "POST", `/exec/${exec}/start`, {
        Detach: true,
      });
    };
    await refused("is already running");
    client.socket.end("go on\n");
    await client.end();
    client.close();
    await refused("has already run");
    assert.equal((await inspect(exec)).ExitCode, 3);
    await api.remove(id);
  });

  test("has its exit code the moment its stream ends, and its process while it runs", async () => {
    const id = await sleeping();
    for (let code = 0; code < 5; code++) {
      const exec = await createExec(id, {
        Cmd: ["sh", "-c", `read line; exit ${code}`],
        AttachStdin: true,
        ...output,
      });
      const before = await inspect(exec);
      assert.deepEqual([before.Running, before.ExitCode], [false, null]);
      const client = await started(exec);
      // The answer begins before the process does.
      const during = await until(async () => {
        const detail = await inspect(exec);
        return detail.Pid > 0 ? detail : undefined;
      });
      assert.deepEqual([during.Running, during.ExitCode], [true, null]);
      client.send("\n");
      await client.end();
      const after = await inspect(exec);
      assert.deepEqual([after.Running, after.ExitCode], [false, code]);
      client.close();
    }
    await api.remove(id);
  });

  test("closes its connection at its end although its client still sends", async () => {
    const id = await sleeping();
    const client = await started(
      await createExec(id, { Cmd: ["echo", "done"], AttachStdin: true, ...output }),
    );
    await client.end();
    assert.equal(client.socket.writableEnded, false);
    assert.equal(channelText(client.body, 1), "done\n");
    client.close();
    await api.remove(id);
  });

  test("detached is answered with nothing once it runs", async () => {
    const id = await sleeping();
    const exec = await createExec(id, { Cmd: ["sh", "-c", "touch /done; exit 8"], ...output });
    const answer = await api.call("POST", `/exec/${exec}/start`, { Detach: true });
    assert.deepEqual([answer.status, answer.text], [200, ""]);
    await until(async () => ((await inspect(exec)).Running ? undefined : true));
    assert.equal((await inspect(exec)).ExitCode, 8);
    assert.equal(await outputOf(id, "ls /done"), "/done\n");
    await api.remove(id);
  });

  test("runs although its client leaves right after the header, without having read it", async () => {
    const id = await sleeping();
    for (let round = 0; round < 10; round++) {
      const exec = await createExec(id, { Cmd: ["cat"], AttachStdin: true, ...output });
      const socket = connect({ path: daemon.socket });
      socket.pause(); // Unread output makes its close a reset.
      socket.on("error", () => {});
      socket.write(hijackRequest(`/v1.51/exec/${exec}/start`, { body: "{}" }));
      await until(async () => (await inspect(exec)).Running || undefined);
      socket.destroy();
      const { ExitCode } = await until(async () => {
        const detail = await inspect(exec);
        return detail.Running ? undefined : detail;
      });
      assert.equal(ExitCode, 0);
    }
    await api.remove(id);
  });

  test("with no stream attached runs on by itself", async () => {
    const id = await sleeping();
    const exec = await createExec(id, { Cmd: ["sh", "-c", "echo unseen; touch /done; exit 9"] });
    const client = await started(exec, { Detach: false });
    await client.end();
    assert.equal(client.body.length, 0);
    client.close();
    await until(async () => ((await inspect(exec)).ExitCode === 9 ? true : undefined));
    assert.equal(await outputOf(id, "ls /done"), "/done\n");
    await api.remove(id);
  });

  test("has the environment, user and directory that it asks for, over the container's", async () => {
    const id = await sleeping({ Env: ["FROM=container", "OVER=container"], WorkingDir: "/var", User: "app" });
    const script = "echo $FROM $OVER; id -un; id -gn; pwd";
    assert.equal(await outputOf(id, script), "container container\napp\napp\n/var\n");
    assert.equal(
      await outputOf(id, script, { Env: ["OVER=exec"], User: "root:tty", WorkingDir: "/tmp" }),
      "container exec\nroot\ntty\n/tmp\n",
    );
    assert.equal(await outputOf(id, "id -u; id -g", { User: "4321:8765" }), "4321\n8765\n");
    const made = await createExec(id, { Cmd: ["true"], User: "app", ...output });
    await outputOf(id, "sed -i /^app:/d /etc/passwd", { User: "root" });
    const stranger = await started(made);
    await stranger.end();
    assert.match(stranger.bytes.toString(), /unable to find user app: no matching entries in passwd file/);
    stranger.close();
    await api.remove(id);
  });

  test("has no terminal's name without a terminal, and what it removes it has not", async () => {
    const show = "echo term=$TERM foo=$FOO";
    const plain = await sleeping({ Tty: true, Env: ["FOO=bar"] });
    assert.equal(await outputOf(plain, show), "term= foo=bar\n");
    assert.equal(await outputOf(plain, show, { Env: ["FOO", "TERM=own"] }), "term=own foo=\n");
    const named = await sleeping({ Tty: true, Env: ["TERM=vt100"] });
    assert.equal(await outputOf(named, show), "term=vt100 foo=\n");
    await api.remove(plain, named);
  });

  test("of a user that is not there is refused at its creation", async () => {
    const id = await sleeping();
    await api.refuses(
      400,
      "unable to find user nope: no matching entries in passwd file",
      "POST",
      `/containers/${id}/exec`,
      { Cmd: ["true"], User: "nope" },
    );
    await api.refuses(400, /unable to find group nope/, "POST", `/containers/${id}/exec`, {
      Cmd: ["true"],
      User: "root:nope",
    });
    assert.equal(await outputOf(id, "id -u", { User: "4711" }), "4711\n");
    await api.remove(id);
  });

  test("that is privileged has every capability, in a container that has few", {
    skip: onlyOn("local", "a task cannot have more"),
  }, async () => {
    const id = await sleeping({ HostConfig: { CapDrop: ["ALL"] } });
    const effective = async (config: object) =>
      BigInt(`0x${(await outputOf(id, "grep CapEff /proc/self/status", config)).split("\t")[1]?.trim()}`);
    assert.equal(await effective({}), 0n);
    assert.ok((await effective({ Privileged: true })) > 0xa80425fbn);
    await api.remove(id);
  });

  test("on a terminal has the size that it is given, and takes another", async () => {
    const id = await sleeping();
    const tty = { Cmd: ["sh"], Tty: true, AttachStdin: true, ...output };
    const exec = await createExec(id, { ...tty, ConsoleSize: [31, 101] });
    const client = await started(exec, { Tty: true, ConsoleSize: [31, 101] });
    client.send("stty size\r");
    await client.says("31 101");
    await api.expect(200, "POST", `/exec/${exec}/resize?h=22&w=77`);
    client.send("stty size\r");
    await client.says("22 77");
    client.send("exit 5\r");
    await client.end();
    client.close();
    assert.equal((await inspect(exec)).ExitCode, 5);
    await api.remove(id);
  });

  test("is left by the detach keys of its own and runs on", async () => {
    const id = await sleeping();
    const exec = await createExec(id, {
      Cmd: ["cat"],
      Tty: true,
      AttachStdin: true,
      ...output,
      DetachKeys: "ctrl-a,d",
    });
    const client = await started(exec, { Tty: true });
    client.send("line\r");
    await client.says("line");
    client.send("\x01d");
    await client.end();
    client.close();
    assert.equal((await inspect(exec)).Running, true);
    await api.refuses(400, /Invalid escape keys/, "POST", `/containers/${id}/exec`, {
      Cmd: ["cat"],
      DetachKeys: "nonsense",
    });
    await api.remove(id);
  });

  test("ends with its container, and never as a success", async () => {
    const id = await sleeping();
    const exec = await createExec(id, { Cmd: ["sh", "-c", "echo runs; exec sleep 1000"], ...output });
    const client = await started(exec);
    await client.says("runs"); // One whose container ends before that could not be started: 126.
    await api.expect(204, "POST", `/containers/${id}/kill`);
    await client.end();
    client.close();
    assert.equal((await inspect(exec)).ExitCode, 137);
    await api.remove(id);
  });
});

describe("a terminal's size", () => {
  test("is refused where nothing runs, and where it is none", async () => {
    const id = await api.create({ Cmd: ["sh"], Tty: true, OpenStdin: true });
    await api.refuses(409, `container ${id} is not running`, "POST", `/containers/${id}/resize?h=10&w=10`);
    await api.start(id);
    await api.refuses(400, /invalid resize width/, "POST", `/containers/${id}/resize?h=10`);
    await api.refuses(400, /invalid resize height/, "POST", `/containers/${id}/resize?h=x&w=10`);
    await api.expect(200, "POST", `/containers/${id}/resize?h=33&w=111`);
    const client = api.connect();
    client.send(hijackRequest(`/v1.51/containers/${id}/attach?stdin=1&stdout=1&stream=1`));
    await client.answered();
    client.send("stty size\r");
    await client.says("33 111");
    client.close();
    await api.remove(id);
  });
});
