/**
 * Streams whose connections the container's agent serves itself: what a client sends and gets is the same wherever it was
 * cut, and whoever else dies. The tests of streams in test/api run here this way, in test/ecs the other, and with
 * SOCKERLESS_HAND_OVER=false here as well.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";

import type { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { FollowingClient } from "../support/following-client.ts";
import { isAlive, processOf, killAndAwaitNext } from "../support/processes.ts";
import { Terminal } from "../support/terminal.ts";
import { channelText, hijackRequest, RawClient } from "../support/raw-client.ts";
import { isSoak, sampled } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

/** How often each process is killed; `npm run soak` takes its time. */
const kills = isSoak ? 50 : 1;
const terminalKills = isSoak ? 10 : 1;
/** The same for `docker run`, which takes longer, by tests: each has a time limit of its own. */
const runKills = isSoak ? [10, 10, 10, 10, 10] : [1];
const manyStreams = isSoak ? { handed: 100, byWorkers: 32 } : { handed: 32, byWorkers: 16 };

const { daemon, ok } = withDaemon({ args: ["--log-level", "debug"] });
const byWorkers = withDaemon({ env: { SOCKERLESS_HAND_OVER: "false" } });

const run = (name: string, ...command: string[]) => runOn(daemon, name, ...command);
const runOn = (daemon: Daemon, name: string, ...command: string[]) =>
  daemon.ok("run", "-di", "--name", name, "busybox", ...(command.length > 0 ? command : ["sleep", "1000"]));

async function exec(daemon: Daemon, container: string, ...cmd: string[]): Promise<string> {
  const body = { AttachStdin: true, AttachStdout: true, AttachStderr: true, Cmd: cmd };
  const created = await callApi(daemon.socket, "POST", `/v1.51/containers/${container}/exec`, {
    body,
  });
  return (created.json() as { readonly Id: string }).Id;
}

async function exitCodeOf(daemon: Daemon, id: string): Promise<unknown> {
  const answer = await callApi(daemon.socket, "GET", `/v1.51/exec/${id}/json`);
  const { Running, ExitCode } = answer.json() as { readonly Running: boolean; readonly ExitCode: number };
  return Running ? "it runs" : ExitCode;
}

const startRequest = (id: string) => hijackRequest(`/v1.51/exec/${id}/start`, { body: '{"Detach":false}' });

/** How many connections were handed on. */
const handedOn = () => daemon.output.split("a stream is handed on").length - 1;

/** How many containers were started, as their clients know. */
const started = () => daemon.output.match(/\/start","status":204/g)?.length ?? 0;

/** How often terminals were given a size, as their clients know. */
const resized = () => daemon.output.match(/\/resize\?\S*","status":200/g)?.length ?? 0;

/** Starts streams, and waits until each was handed on. */
async function handed<Stream>(count: number, begin: () => Promise<Stream> | Stream): Promise<Stream[]> {
  const before = handedOn();
  const streams = await Promise.all(Array.from({ length: count }, begin));
  await untilTrue(() => handedOn() - before >= count);
  return streams;
}

/** A client of an exec of `cat`, that has been answered. */
async function catIn(container: string, on = daemon): Promise<RawClient> {
  const id = await exec(on, container, "cat");
  const client = new RawClient(on.socket).send(startRequest(id));
  await client.answered();
  return client;
}

/** Sends a text to a `cat`, and gets it back, to the end. */
async function assertEchoes(client: RawClient, text: string): Promise<void> {
  client.socket.end(text);
  await client.end();
  assert.equal(channelText(client.body, 1), text);
  client.close();
}

/** Sends standard input cut at each byte, and ended at several times. @returns how many streams that was */
async function assertComesWholeHoweverCut(daemon: Daemon, container: string): Promise<number> {
  const text = "all";
  let streams = 0;
  for (let cut = 0; cut <= text.length; cut += 1) {
    for (const ends of ["with the first packet", "once it is answered", "once it is echoed"]) {
      const id = await exec(daemon, container, "cat");
      const client = new RawClient(daemon.socket);
      if (ends === "with the first packet") {
        client.send(startRequest(id) + text.slice(0, cut));
        client.socket.end(text.slice(cut));
      } else {
        client.send(startRequest(id) + text.slice(0, cut));
        await client.answered();
        client.send(text.slice(cut));
        if (ends === "once it is echoed") {
          await untilTrue(() => client.body.length > 0);
        }
        client.socket.end();
      }
      await client.end();
      client.close();
      assert.equal(channelText(client.body, 1), text, `cut at ${cut}, ends ${ends}`);
      assert.equal(await exitCodeOf(daemon, id), 0);
      streams += 1;
    }
  }
  return streams;
}

const descriptorsOf = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

describe("a stream that was handed on", () => {
  test("has every byte of standard input, wherever the client's packets are cut and whenever it ends", async () => {
    await run("cuts");
    const before = handedOn();
    const streams = await assertComesWholeHoweverCut(daemon, "cuts");
    await untilTrue(() => handedOn() - before === streams);
    const told =
      /"kind":"exit","exitCode":0,"input":3,"output":3,"ms":\d+,"msg":"a stream that was handed on has ended"/g;
    await untilTrue(() => daemon.output.match(told)?.length === streams);
    await ok("rm", "-f", "cuts");
  });

  test("takes all input though the process closes its standard input midway", async () => {
    await run("closes");
    const script = "head -c 1000000 > /dev/null; exec 0<&-; until [ -e /go ]; do usleep 1000; done; exit 9";
    const id = await exec(daemon, "closes", "sh", "-c", script);
    const client = new RawClient(daemon.socket).send(startRequest(id));
    await client.answered();
    client.socket.end("x".repeat(8 * 1024 ** 2));
    await once(client.socket, "finish"); // A client is held up where nobody takes its input.
    await ok("exec", "closes", "touch", "/go");
    await client.end();
    client.close();
    assert.equal(await exitCodeOf(daemon, id), 9);
    await ok("rm", "-f", "closes");
  });

  for (const role of ["frontend", "backend"] as const) {
    test(`outlives a ${role} that is killed: every byte and the exit code come`, async () => {
      await run("lasts", "cat");
      for (let n = 0; n < kills; n += 1) {
        const script = "echo begun; cat; exit 42";
        const [client] = await handed(
          1,
          () => new FollowingClient(daemon, "exec", "-i", "lasts", "sh", "-c", script),
        );
        const [attached] = await handed(
          1,
          () => new FollowingClient(daemon, "attach", "--sig-proxy=false", "lasts"),
        );
        assert.ok(client !== undefined && attached !== undefined);
        attached.write("one\n");
        await attached.receives("one\n");
        await killAndAwaitNext(daemon, role);
        for (const each of [client, attached]) {
          each.write("after\n");
          await each.receives("after\n");
        }
        client.endInput();
        assert.equal(await client.exitCode(), 42, client.stderr);
        assert.equal(client.stdout, "begun\nafter\n");
        assert.equal(attached.stdout, "one\nafter\n");
        await attached.leave();
      }
      await ok("rm", "-f", "lasts");
    });
  }

  for (const [role, count] of (["frontend", "backend"] as const).flatMap((role) =>
    runKills.map((count) => [role, count] as const),
  )) {
    test(
      `docker run and logs outlive a ${role} that is killed ${count} times: every byte comes, and the container's exit code`,
      sampled(role === "backend"),
      async () => {
        const untilTold = "trap 'echo after; exit 43' TERM; echo begun; while :; do usleep 5000; done";
        for (let n = 0; n < count; n += 1) {
          const before = started();
          const clients = [
            ...[["-i"], ["-i", "--rm"]].map((options) => [
              ...options,
              "busybox",
              "sh",
              "-c",
              "echo begun; cat; exit 42",
            ]),
            ["--rm", "--name=told", "busybox", "sh", "-c", untilTold],
          ].map((args) => new FollowingClient(daemon, "run", ...args));
          await Promise.all(clients.map((client) => client.receives("begun\n")));
          await untilTrue(() => started() - before === clients.length); // Output may be earlier than the start's answer.
          clients.push(new FollowingClient(daemon, "logs", "--follow", "told"));
          await clients.at(-1)?.receives("begun\n");
          await killAndAwaitNext(daemon, role);
          for (const client of clients) {
            client.write("after\n");
            client.endInput();
          }
          await ok("version"); // A signal is not sent again where a connection to a backend was lost.
          await ok("kill", "--signal=TERM", "told");
          const codes = await Promise.all(clients.map((client) => client.exitCode()));
          assert.deepEqual(codes, [42, 42, 43, 0], clients.map(({ stderr }) => stderr).join());
          for (const client of clients) {
            assert.equal(client.stdout, "begun\nafter\n");
          }
        }
        assert.equal(await ok("ps", "--all", "--quiet", "--filter=status=running"), "");
        await ok("container", "prune", "--force");
      },
    );
  }

  for (const role of ["frontend", "backend"] as const) {
    test(
      `a terminal of run and of exec outlives a ${role} that is killed: every byte, its size, its exit code`,
      sampled(role === "backend"),
      async () => {
        // Numbers for as long as it is not told to stop, then an answer to each line.
        const script = (code: number) => `stty -echo; echo begun; i=0
        until [ -e /stop ]; do i=$((i + 1)); echo $i; usleep 2000; done; echo counted
        while read -r line; do case $line in size) stty size;; end) exit ${code};; *) echo "<$line>";; esac; done`;
        for (let n = 0; n < terminalKills; n += 1) {
          const terminal = (...args: string[]) => Terminal.run("docker", args, daemon.clientEnv);
          const before = resized();
          const options = ["-it", "--rm", "--name=typed", "busybox"];
          const [first] = await handed(1, () => terminal("run", ...options, "sh", "-c", script(42)));
          const [second] = await handed(1, () => terminal("exec", "-it", "typed", "sh", "-c", script(43)));
          assert.ok(first !== undefined && second !== undefined);
          await untilTrue(() => resized() - before >= 2); // A kill refuses the request that is being answered.
          await Promise.all([first.see(/^100\r$/m), second.see(/^100\r$/m)]);
          await killAndAwaitNext(daemon, role, () => {
            for (const each of [first, second]) {
              each.type("one\rtwo\r");
              each.resize(40, 132);
            }
          });
          await ok("exec", "typed", "touch", "/stop");
          for (const each of [first, second]) {
            await each.see("<one>\r\n<two>\r\n");
            const lines = each.screen.split("\r\n");
            const numbers = Array.from({ length: lines.length - 5 }, (_, index) => String(index + 1));
            assert.deepEqual(lines, ["begun", ...numbers, "counted", "<one>", "<two>", ""]);
            await until(async () => {
              each.type("size\r");
              return (await each.see(/^\d+ \d+\r$/m)) === "40 132\r" || undefined;
            });
          }
          second.type("end\r");
          assert.equal(await second.exitCode(), 43, second.screen);
          first.type("end\r");
          assert.equal(await first.exitCode(), 42, first.screen);
        }
      },
    );
  }

  test("has its exit code once its client has seen the end, until the container is removed", async () => {
    await run("inspected");
    const inspect = async (id: string): Promise<Record<string, unknown>> =>
      (await callApi(daemon.socket, "GET", `/v1.51/exec/${id}/json`)).json() as Record<string, unknown>;
    const id = await exec(daemon, "inspected", "sh", "-c", "exit 7");
    const client = new RawClient(daemon.socket).send(startRequest(id));
    await client.end();
    client.close();
    assert.equal((await inspect(id))["ExitCode"], 7);
    await ok("rm", "-f", "inspected");
    assert.match(String((await inspect(id))["message"]), /No such exec instance/);
  });

  test("ends for its client once a backend knows the exit code, if it takes the next one", async () => {
    await run("ended");
    const [client] = await handed(
      1,
      () => new FollowingClient(daemon, "exec", "-i", "ended", "sh", "-c", "cat; exit 43"),
    );
    assert.ok(client !== undefined);
    const pid = await processOf(daemon, "backend");
    process.kill(daemon.pid, "SIGSTOP"); // No next one yet.
    process.kill(pid, "SIGKILL");
    await until(() => !isAlive(pid) || undefined);
    client.write("last\n");
    client.endInput();
    await client.receives("last\n");
    process.kill(daemon.pid, "SIGCONT");
    assert.equal(await client.exitCode(), 43, client.stderr);
    await ok("rm", "-f", "ended");
  });

  test(`outlives a frontend that is told to end, with ${manyStreams.handed} of them`, async () => {
    await run("many");
    const clients = await handed(manyStreams.handed, () => catIn("many"));
    const pid = await processOf(daemon, "frontend");
    process.kill(pid, "SIGTERM");
    await processOf(daemon, "frontend", pid);
    await Promise.all(clients.map((client, n) => assertEchoes(client, `stream ${n}`)));
    await untilTrue(async () => (await daemon.docker("version")).code === 0); // It had taken its socket along.
    await ok("rm", "-f", "many");
  });

  test("leaves no descriptor in the frontend or its forwarder, with 32 at a time", async () => {
    await run("counted");
    const pids = [await processOf(daemon, "frontend"), await processOf(daemon, "forwarder")];
    const count = 32;
    const streams = async () => {
      const clients = await handed(count, () => catIn("counted"));
      await Promise.all(clients.map((client) => assertEchoes(client, "x")));
    };
    await streams(); // The first ones bring connections that stay.
    const before = await settled(() => pids.map(descriptorsOf));
    await streams();
    // Connections between our own processes come and go; what streams leave would be as many as they.
    await untilTrue(() => pids.every((pid, index) => descriptorsOf(pid) < (before[index] ?? 0) + count / 2));
    await ok("rm", "-f", "counted");
  });

  test("outlives its forwarder, without which others go through the frontend until there is a new one", async () => {
    await run("helped");
    const [earlier] = await handed(1, () => catIn("helped"));
    assert.ok(earlier !== undefined);
    await killAndAwaitNext(daemon, "forwarder", async () => assertEchoes(await catIn("helped"), "meanwhile"));
    const [later] = await handed(1, () => catIn("helped"));
    assert.ok(later !== undefined);
    await Promise.all([assertEchoes(earlier, "earlier"), assertEchoes(later, "later")]);
    await ok("rm", "-f", "helped");
  });
});

describe("a stream that goes through a worker", () => {
  test("has every byte of standard input, wherever the client's packets are cut and whenever it ends", async () => {
    await runOn(byWorkers.daemon, "cuts");
    await assertComesWholeHoweverCut(byWorkers.daemon, "cuts");
    await byWorkers.daemon.ok("rm", "-f", "cuts");
  });

  test("is cut by a frontend that is told to end, and tells why, with 32 of them", async () => {
    const { daemon } = byWorkers;
    await runOn(daemon, "many");
    const clients = await Promise.all(
      Array.from({ length: manyStreams.byWorkers }, () => catIn("many", daemon)),
    );
    await Promise.all(
      clients.map(async (client, n) => {
        client.send(`stream ${n}`);
        await untilTrue(() => channelText(client.body, 1) === `stream ${n}`);
      }),
    );
    process.kill(await processOf(daemon, "frontend"), "SIGTERM");
    await Promise.all(clients.map((client) => client.end()));
    for (const client of clients) {
      client.close();
      assert.equal(channelText(client.body, 3), "the Docker API is shutting down\r\n");
    }
    await untilTrue(async () => (await daemon.docker("version")).code === 0); // It had taken its socket along.
    await daemon.ok("rm", "-f", "many");
  });

  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    test(
      `is never taken for a success where the frontend ends by ${signal}, by the frontends after it`,
      sampled(signal === "SIGKILL"),
      async () => {
        const { daemon } = byWorkers;
        const name = `cut-${signal.toLowerCase()}`;
        await runOn(daemon, name);
        const [ended, cut] = [
          await exec(daemon, name, "cat"),
          await exec(daemon, name, "sh", "-c", "cat; exit 0"),
        ];
        const whole = new RawClient(daemon.socket).send(startRequest(ended));
        whole.socket.end();
        await whole.end();
        whole.close();
        const client = new RawClient(daemon.socket).send(startRequest(cut));
        await client.answered();
        for (let death = 0; death < 2; death += 1) {
          const pid = await processOf(daemon, "frontend");
          process.kill(pid, signal);
          await processOf(daemon, "frontend", pid);
          await untilTrue(async () => (await daemon.docker("version")).code === 0); // By SIGTERM it takes its socket along.
          await until(async () => (await exitCodeOf(daemon, cut)) !== "it runs" || undefined);
          assert.equal(await exitCodeOf(daemon, cut), 255);
          assert.equal(await exitCodeOf(daemon, ended), 0);
        }
        client.close();
        await daemon.ok("rm", "-f", name);
      },
    );
  }
});

/** A value that two looks in a row have in common. */
async function settled<Value>(look: () => Value): Promise<Value> {
  let last = JSON.stringify(look());
  return await until(() => {
    const now = look();
    const isSame = JSON.stringify(now) === last;
    last = JSON.stringify(now);
    return isSame ? now : undefined;
  });
}
