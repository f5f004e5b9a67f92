/** Tasks in subnets that let nothing in: their agents call the backend (`ecs.agent_mode: callback`). */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { callingAgents } from "../support/calling-agents.ts";
import { beginClient, type ClientUnderWay, count, counted } from "../support/client-under-way.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { freePort } from "../support/free-port.ts";
import { killAndAwaitNext } from "../support/processes.ts";
import { inSoak } from "../support/soak.ts";
import { startTlsEndingProxy, type TlsEndingProxy } from "../support/tls-ending-proxy.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** A peer that says nothing for as long is taken for gone (proto/sockerless/agent/v1/agent.proto), if its link is there. */
const silenceMs = 30_000;

describe("tasks whose agents call the backend", () => {
  const directory = scratchDirectory();
  let proxy: TlsEndingProxy;
  const under = duringTests((resources) =>
    EcsDaemon.start({
      leastPrivilege: true,
      ecs: async (aws) => {
        const port = await freePort();
        const host = aws.services.network.subnets()[0]?.routerAddress ?? "";
        proxy = resources.use(await startTlsEndingProxy(directory, port, { host }));
        return {
          ...(await callingAgents(aws, proxy.port)),
          callback_listen: `tcp://127.0.0.1:${port}`,
          linger: "5s",
          drain_timeout: "2s",
        };
      },
    }),
  );

  it("run, and have their streams", async () => {
    const { daemon } = under;
    const ran = await daemon.docker("run", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7");
    assert.deepEqual([ran.text, ran.errorText, ran.code], ["out", "err", 7]);
    await daemon.ok("run", "--detach", "--name", "web", "busybox", "sh", "-c", "echo begun; exec sleep 1000");
    const executed = await daemon.docker("exec", "web", "sh", "-c", "echo hello; exit 3");
    assert.deepEqual([executed.text, executed.code], ["hello", 3]);
    await untilTrue(async () => (await daemon.ok("logs", "web")) === "begun");
    const file = join(directory, "there");
    await writeFile(file, Buffer.alloc(3_000_000, "abc"));
    await daemon.ok("cp", file, "web:/tmp/there");
    await daemon.ok("cp", "web:/tmp/there", join(directory, "back"));
    assert.ok((await readFile(file)).equals(await readFile(join(directory, "back"))));
    await daemon.ok("rm", "--force", "web");
    const input = Buffer.alloc(2_000_000, "stdin");
    const echoed = await daemon.dockerWith({ input }, "run", "--rm", "--interactive", "busybox", "wc", "-c");
    assert.equal(echoed.text, String(input.length));
  });

  it("are reached by published ports, and reach one another by name", async () => {
    const { daemon } = under;
    await daemon.ok("network", "create", "net");
    const serve = "echo hi > /tmp/index.html && exec httpd -f -h /tmp -p 8080";
    await daemon.ok(
      ...["run", "--detach", "--name", "site", "--network", "net", "--publish", "127.0.0.1::8080"],
      ...["busybox", "sh", "-c", serve],
    );
    const address = await daemon.ok("port", "site", "8080");
    const get = (): Promise<string> => fetch(`http://${address}`).then((answer) => answer.text(), String);
    await untilTrue(async () => (await get()) === "hi\n");
    const asked = ["busybox", "wget", "-qO-", "http://site:8080"];
    assert.equal(await daemon.ok("run", "--rm", "--network", "net", ...asked), "hi");
    await daemon.ok("rm", "--force", "site");
  });

  it("share a network, whose loopback others do not reach", inSoak, async () => {
    const { daemon } = under;
    const serve = (address: string): string[] => [
      "busybox",
      "sh",
      "-c",
      `echo hi > /tmp/index.html && exec httpd -f -h /tmp -p ${address}`,
    ];
    const get = async (from: string, url: string): Promise<string> =>
      (await daemon.docker("exec", from, "wget", "-qO-", url)).text;
    await daemon.ok("network", "create", "sharing");
    await daemon.ok("run", "--detach", "--name", "app", "--network", "sharing", ...serve("127.0.0.1:8080"));
    await untilTrue(async () => (await get("app", "http://127.0.0.1:8080")) === "hi");
    const shared = ["run", "--network", "container:app"];
    const once = [...shared, "--rm", "busybox", "wget", "-qO-", "http://localhost:8080"];
    assert.equal(await daemon.ok(...once), "hi");
    await daemon.ok(...shared, "--detach", "--name", "side", ...serve("9090"));
    await daemon.ok(
      ...["run", "--detach", "--name", "peer"],
      "--network",
      "sharing",
      "busybox",
      "sleep",
      "1000",
    );
    await untilTrue(async () => (await get("app", "http://127.0.0.1:9090")) === "hi");
    await untilTrue(async () => (await get("peer", "http://app:9090")) === "hi");
    const refused = await daemon.docker("exec", "peer", "wget", "-qO-", "http://app:8080");
    assert.match(refused.errorText, /Connection refused/);
    await daemon.ok("rm", "--force", "side");
    await untilTrue(async () => (await get("app", "http://127.0.0.1:9090")) === "");
    await daemon.ok("rm", "--force", "app", "peer");
  });

  it("keep the logs of all runs, each of which had an agent of its own", inSoak, async () => {
    const { daemon, aws } = under;
    await daemon.ok("run", "--name", "twice", "busybox", "sh", "-c", "echo run");
    await untilTrue(() => aws.ecs.tasks.every(({ state }) => state.desiredStatus === "STOPPED"));
    await daemon.ok("start", "--attach", "twice");
    await untilTrue(() => aws.ecs.tasks.every(({ state }) => state.desiredStatus === "STOPPED"));
    assert.equal(await daemon.ok("logs", "twice"), "run\nrun");
  });

  it("are found again by a backend that was away", inSoak, async () => {
    const { daemon } = under;
    await daemon.ok(
      ...["run", "--detach", "--name", "stays", "busybox"],
      ...["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done"],
    );
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await daemon.ok("exec", "stays", "echo", "again"), "again");
    await daemon.ok("stop", "stays");
    assert.equal(await daemon.ok("wait", "stays"), "9");
  });

  const begin = (...args: string[]): ClientUnderWay => beginClient(under.daemon, ...args);

  it(
    "go on, byte for byte, after a cut that is longer than the silence of a peer that is gone",
    inSoak,
    async () => {
      const { daemon } = under;
      const fill = "head -c 30000000 /dev/urandom > /big; sha256sum < /big > /sum";
      await daemon.ok(
        ...["run", "--detach", "--name", "far", "busybox", "sh", "-c"],
        `${fill}; until [ -e /go ]; do usleep 10000; done; ${count(400)}; until [ -e /end ]; do usleep 10000; done`,
      );
      await untilTrue(async () => (await daemon.docker("exec", "far", "cat", "/sum")).text.length === 67);
      const sum = (await daemon.ok("exec", "far", "cat", "/sum")).slice(0, 64);
      const log = begin("logs", "--follow", "far");
      const exec = begin("exec", "far", "sh", "-c", `touch /go; ${count(400)}; exit 3`);
      const copy = begin("cp", "far:/big", "-");
      const run = begin("run", "--rm", "busybox", "sh", "-c", `${count(400)}; exit 5`);
      await once(copy.output, "data");
      copy.output.pause(); // So that it is under way.
      await untilTrue(() => [exec, log, run].every((client) => client.text().length > 0));
      proxy.setOpen(false);
      proxy.cut();
      await delay(silenceMs + 1_000);
      proxy.setOpen(true);
      copy.output.resume();
      assert.deepEqual(await Promise.all([exec.closed, copy.closed, run.closed]), [3, 0, 125]);
      assert.match(run.errors(), /its output may not be whole/); // Its agent left before a watch of it stood again.
      await daemon.ok("exec", "far", "touch", "/end");
      assert.equal(await log.closed, 0);
      for (const told of [log, exec, run]) {
        assert.equal(String(told.text()), counted(400));
      }
      assert.equal(createHash("sha256").update(copy.text().subarray(512, 30_000_512)).digest("hex"), sum);
      await daemon.ok("rm", "--force", "far");
    },
  );

  it("are told to be gone once their tasks have ended during a cut", inSoak, async () => {
    const { daemon } = under;
    await daemon.ok("run", "--detach", "--name", "lost", "busybox", "sleep", "1000");
    const exec = begin("exec", "lost", "sh", "-c", "echo begun; sleep 1000");
    await untilTrue(() => exec.text().length > 0);
    proxy.setOpen(false);
    proxy.cut();
    await daemon.ok("kill", "lost");
    const code = await exec.closed;
    proxy.setOpen(true);
    assert.ok(code > 0, String(code));
    assert.match(exec.errors(), /the connection to the agent was cut: .*the agent is gone/);
    await daemon.ok("rm", "--force", "lost");
  });

  it("go on, byte for byte, after the backend was killed", async () => {
    const { daemon } = under;
    await daemon.ok("run", "--detach", "--name", "near", "busybox", "sleep", "1000");
    const exec = begin("exec", "near", "sh", "-c", `${count(300)}; exit 3`);
    await untilTrue(() => exec.text().length > 0);
    await killAndAwaitNext(daemon, "backend");
    assert.equal(await exec.closed, 3);
    assert.equal(String(exec.text()), counted(300));
    await daemon.ok("rm", "--force", "near");
  });

  it("are refused without what they prove themselves by", async () => {
    await assert.rejects(
      EcsDaemon.start({
        ecs: { agent_mode: "callback", callback_url: "https://127.0.0.1:1", task_role_arn: undefined },
      }),
      /agent_mode: callback needs ecs.task_role_arn/,
    );
    await assert.rejects(
      EcsDaemon.start({ ecs: { agent_mode: "callback" } }),
      /agent_mode: callback needs ecs.callback_url/,
    );
  });
});
