/** `docker exec`, `docker attach` and a person at a terminal, through the real docker CLI. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { callApi } from "../support/call-api.ts";
import { FollowingClient } from "../support/following-client.ts";
import { hijackRequest } from "../support/raw-client.ts";
import { Terminal } from "../support/terminal.ts";
import { onlyOn } from "../support/backend-under-test.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok } = withDaemon();

async function running(name: string, ...flags: string[]): Promise<void> {
  await ok("run", "-d", "--name", name, ...flags, "busybox", "sleep", "600");
}

/** A script that says that it waits until there is the file `/go`: whoever hears it is attached. */
const untilToldTo = (script: string) => `until test -e /go; do echo waiting; sleep 0.05; done; ${script}`;
/** Tells it; the container's end may take the exec along. */
const tell = (container: string) => docker("exec", container, "touch", "/go");

describe("docker exec", () => {
  test("shows both streams and ends with the process's exit code", async () => {
    await running("codes");
    for (const code of [0, 1, 42, 255]) {
      const result = await docker("exec", "codes", "sh", "-c", `echo out; echo err >&2; exit ${code}`);
      assert.deepEqual([result.text, result.errorText, result.code], ["out", "err", code]);
    }
    await ok("rm", "-f", "codes");
  });

  test("takes environment, user and working directory, and inherits the container's", async () => {
    await running("settings", "-e", "FROM=container", "-w", "/var");
    const text = await ok(
      ...["exec", "-e", "OWN=exec", "-u", "app", "-w", "/tmp", "settings"],
      ...["sh", "-c", "echo $FROM $OWN; id -u; pwd"],
    );
    assert.equal(text, "container exec\n1000\n/tmp");
    assert.equal(await ok("exec", "settings", "pwd"), "/var");
    await ok("rm", "-f", "settings");
  });

  test("passes 32 MiB through standard input and output unchanged", async () => {
    await running("pipe");
    const input = Buffer.alloc(32 * 1024 * 1024);
    for (let at = 0; at < input.length; at += 4) {
      input.writeUInt32LE((at * 2_654_435_761) % 4_294_967_296, at);
    }
    const result = await daemon.dockerWith({ input }, "exec", "-i", "pipe", "cat");
    const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
    assert.equal(result.code, 0, result.errorText);
    assert.equal(hash(result.stdout), hash(input));
    await ok("rm", "-f", "pipe");
  });

  test("of what does not exist or cannot be executed ends with 127 or 126", async () => {
    await running("wrong");
    const missing = await docker("exec", "wrong", "nosuch");
    assert.equal(missing.code, 127);
    assert.match(missing.text + missing.errorText, /exec: "nosuch": executable file not found in \$PATH/);
    assert.equal((await docker("exec", "wrong", "/etc/passwd")).code, 126);
    await ok("rm", "-f", "wrong");
  });

  test("detached answers at once and does its work", async () => {
    await running("detached");
    assert.equal(await ok("exec", "-d", "detached", "sh", "-c", "sleep 0.3; touch /tmp/done"), "");
    await until(async () =>
      (await docker("exec", "detached", "test", "-f", "/tmp/done")).code === 0 ? true : undefined,
    );
    await ok("rm", "-f", "detached");
  });

  test("privileged has the capabilities that the container lacks", {
    skip: onlyOn("local", "a task cannot have more"),
  }, async () => {
    await running("caps");
    const bounding = async (...flags: string[]) =>
      BigInt(
        `0x${(await ok("exec", ...flags, "caps", "grep", "CapBnd", "/proc/self/status")).split("\t")[1]}`,
      );
    assert.equal(await bounding(), 0xa80425fbn);
    assert.ok((await bounding("--privileged")) > 0xa80425fbn);
    await ok("rm", "-f", "caps");
  });

  test("in a container that does not run is refused in Docker's words", async () => {
    const id = await ok("create", "--name", "resting", "busybox");
    const refused = await docker("exec", "resting", "true");
    assert.equal(refused.code, 1);
    assert.match(refused.errorText, new RegExp(`container ${id} is not running`));
    await ok("rm", "resting");
  });

  test("32 at once are all served", async () => {
    await running("crowd");
    const results = await Promise.all(
      Array.from({ length: 32 }, (_, n) => docker("exec", "crowd", "sh", "-c", `echo ${n}; exit ${n}`)),
    );
    assert.deepEqual(
      results.map((result) => [result.text, result.code]),
      results.map((_, n) => [String(n), n]),
    );
    await ok("rm", "-f", "crowd");
  });
});

describe("a client that leaves without reading", () => {
  // All bytes that the machine has taken from the client arrive: such a client never learns how far it got.
  test("has sent what it sent", async () => {
    await running("deserted");
    const script =
      "yes & until test -e /go; do sleep 0.05; done; cat > /tmp/got; kill $!; mv /tmp/got /tmp/all";
    const config = { AttachStdin: true, AttachStdout: true, Cmd: ["sh", "-c", script] };
    const created = await callApi(daemon.socket, "POST", "/v1.51/containers/deserted/exec", {
      body: config,
    });
    const { Id } = created.json() as { Id: string };
    const socket = connect({ path: daemon.socket });
    socket.on("error", () => {}); // it is cut in the middle of output
    socket.write(hijackRequest(`/v1.51/exec/${Id}/start`, { body: '{"Detach":false,"Tty":false}' }));
    await once(socket, "readable"); // the answer, and the beginning of what nobody reads

    // More than there is room for on the way to a process that does not read yet.
    const input = randomBytes(32 * 1024 * 1024);
    let taken = 0;
    const give = (): void => {
      const chunk = input.subarray(taken, taken + 4096);
      socket.write(chunk, (error) => {
        if (error === undefined || error === null) {
          taken += chunk.length;
          give();
        }
      });
    };
    give();
    let before = -1;
    await until(() => {
      const isFull = taken > 0 && taken === before;
      before = taken;
      return isFull || undefined;
    });
    socket.destroy();
    await ok("exec", "deserted", "touch", "/go");
    const got = await until(async () => {
      const read = await docker("exec", "deserted", "cat", "/tmp/all");
      return read.code === 0 ? read.stdout : undefined;
    });
    assert.ok(got.length >= taken, `${taken} bytes were taken, ${got.length} arrived`);
    assert.ok(got.equals(input.subarray(0, got.length)));
    await ok("rm", "-f", "deserted");
  });
});

describe("at a terminal", () => {
  const terminal = (...args: string[]) => Terminal.run("docker", args, daemon.clientEnv);

  test("an interactive shell: typed lines, ctrl-C, a resized window, the exit code", async () => {
    const shell = await terminal("run", "-it", "--rm", "--name", "typed", "busybox", "sh");
    await shell.see("# ");
    shell.type("echo $((6 * 7))\r");
    await shell.see(/^42\r$/m);
    shell.type("echo re''ady; sleep 100\r");
    await shell.see("ready");
    // Before it is there ctrl-C would be the shell's, which waits on.
    await until(async () => (/ sleep 100$/m.test(await ok("top", "typed")) ? true : undefined));
    shell.type("\x03");
    await shell.see("# ");
    shell.type("echo code $?\r");
    await shell.see(/code 130\r/);
    shell.resize(40, 132);
    await until(async () => {
      shell.type("stty size\r");
      return /^40 132\r$/.test(await shell.see(/^\d+ \d+\r$/m)) ? true : undefined;
    });
    shell.type("exit 3\r");
    assert.equal(await shell.exitCode(), 3);
  });

  test("detach leaves the shell running, attach finds it again", async () => {
    const first = await terminal("run", "-it", "--name", "kept", "busybox", "sh");
    await first.see("# ");
    first.type("x=remembered\r");
    await first.see("# ");
    first.type("\x10\x11");
    assert.equal(await first.exitCode(), 0);
    assert.equal(await ok("inspect", "-f", "{{.State.Running}}", "kept"), "true");
    const second = await terminal("attach", "kept");
    second.type("echo $x\r");
    await second.see(/^remembered\r$/m);
    second.type("exit\r");
    await second.exitCode();
    assert.equal(await ok("inspect", "-f", "{{.State.Running}}", "kept"), "false");
    await ok("rm", "kept");
  });

  test("own detach keys are taken instead of the default ones", async () => {
    const shell = await terminal("run", "-it", "--detach-keys=ctrl-x,q", "--name=keys", "busybox", "sh");
    await shell.see("# ");
    shell.type("\x18q");
    assert.equal(await shell.exitCode(), 0);
    assert.equal(await ok("inspect", "-f", "{{.State.Running}}", "keys"), "true");
    await ok("rm", "-f", "keys");
  });

  test("exec -it has a terminal of its own", async () => {
    await running("host");
    const shell = await terminal("exec", "-it", "host", "sh");
    await shell.see("# ");
    shell.type("tty; echo $TERM\r");
    await shell.see(/\/dev\/(pts\/\d+|console)\r\nxterm/);
    shell.type("exit 7\r");
    assert.equal(await shell.exitCode(), 7);
    await ok("rm", "-f", "host");
  });
});

describe("docker attach", () => {
  test("without standard input shows what comes and ends with the exit code", async () => {
    await ok("run", "-d", "--name", "watched", "busybox", "sh", "-c", untilToldTo("echo later; exit 9"));
    const client = new FollowingClient(daemon, "attach", "--no-stdin", "watched");
    await client.receives();
    await tell("watched");
    assert.equal(await client.exitCode(), 9);
    assert.equal(client.stdout.replaceAll("waiting\n", ""), "later\n");
    await ok("rm", "watched");
  });

  test("before the start gets the first byte", async () => {
    await ok("create", "--name", "early", "busybox", "echo", "first");
    const result = await docker("start", "--attach", "early");
    assert.deepEqual([result.text, result.code], ["first", 0]);
    await ok("rm", "early");
  });

  test("several attached clients see the same output", async () => {
    await ok("run", "-d", "--name", "shown", "busybox", "sh", "-c", untilToldTo("seq 1 1000"));
    const clients = [1, 2, 3].map(() => new FollowingClient(daemon, "attach", "--no-stdin", "shown"));
    await Promise.all(clients.map((client) => client.receives()));
    await tell("shown");
    assert.deepEqual(await Promise.all(clients.map((client) => client.exitCode())), [0, 0, 0]);
    const expected = Array.from({ length: 1000 }, (_, n) => `${n + 1}\n`).join("");
    assert.deepEqual(
      clients.map((client) => client.stdout.replaceAll("waiting\n", "")),
      [expected, expected, expected],
    );
    await ok("rm", "shown");
  });
});
