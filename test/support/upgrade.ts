/**
 * An upgrade of a daemon of an earlier version that has containers of every kind: all go on under the new one, with the shims and
 * agents that they have, in order, back, and by kills.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";

import { buildLimitMs } from "./command.ts";
import { checkout, type Daemon } from "./daemon.ts";
import { earlierVersion } from "./earlier-version.ts";
import { EngineApi } from "./engine-api.ts";
import { FollowingClient } from "./following-client.ts";
import { isAlive, processOf } from "./processes.ts";
import { until, untilTrue } from "./until.ts";

const current = join(checkout, "bin/sockerless");
/** The first version that can be upgraded. */
const earliest = "1ddd2315";

/** A daemon of the earlier version. */
export interface EarlierDaemon {
  readonly daemon: Daemon;
  /** Puts the current version's agent where the daemon takes agents from, if that is not part of an upgrade's start. */
  readonly pushAgent?: () => Promise<void>;
}

/** A backend on which an upgrade is tried. */
export interface UpgradedBackend {
  readonly name: string;
  /** Starts the earlier version, whose checkout is given; it has busybox. */
  readonly start: (earlier: string, resources: AsyncDisposableStack) => Promise<EarlierDaemon>;
  /** Volumes of the driver `block` are there. */
  readonly hasBlockVolumes: boolean;
  /** Clients' connections with containers outlive the daemon. */
  readonly keepsConnections: boolean;
}

const sleep = ["sleep", "100000"];
const shell = (script: string): string[] => ["sh", "-c", script];

/** Containers that run, by their names: what they are run with. */
const running: Readonly<Record<string, readonly [options: readonly string[], command: readonly string[]]>> = {
  running: [
    ["--network=own", "--volume=data:/data"],
    shell("echo first; echo kept >/file; echo kept >/data/file; exec sleep 100000"),
  ],
  asks: [
    ["--interactive"],
    shell("trap 'exit 7' TERM; while read -r line; do echo got $line; done; sleep 100000 & wait"),
  ],
  terminal: [["--tty"], ["sh"]],
  healthy: [["--health-cmd=test -e /file", "--health-interval=1s"], shell("touch /file; exec sleep 100000")],
  sick: [["--health-cmd=exit 3", "--health-interval=1s", "--health-retries=1"], sleep],
  restarts: [["--restart=always"], shell("until [ -e /end ]; do usleep 100000; done; rm /end; exit 9")],
  serves: [
    ["--publish=127.0.0.1::80", "--network=own", "--network-alias=known"],
    shell("exec nc -ll -p 80 -e echo served"),
  ],
};
/** The container of a volume of the driver `block`. */
const owner: (typeof running)[string] = [
  ["--volume=blocked:/data"],
  shell("echo kept >/data/file; exec sleep 100000"),
];

/** Defines the tests of an upgrade on a backend. */
export function describeUpgrade(backend: UpgradedBackend, skip: string | false = false): void {
  describe(`an upgrade on ${backend.name}`, { skip }, () => {
    const resources = new AsyncDisposableStack();
    let daemon: Daemon;
    let pushAgent: EarlierDaemon["pushAgent"];
    let earlier: string;
    /** An exec that runs on. */
    let exec: string;
    let port: string;
    const api = new EngineApi(() => daemon.socket);
    const ok = (...args: string[]): Promise<string> => daemon.ok(...args);
    const inspect = (name: string, format: string): Promise<string> =>
      ok("inspect", `--format=${format}`, name);
    const stateOf = (name: string): Promise<string> => inspect(name, "{{.State.Status}}");
    const restarts = "{{.State.Status}} {{.RestartCount}}";
    const names = async (): Promise<Set<string>> =>
      new Set((await ok("ps", "--all", "--format={{.Names}}")).split("\n"));
    const containers = { ...running, ...(backend.hasBlockVolumes && { owner }) };
    const others = ["created", "ended", "failed", "paused", "stopped"];
    const execState = async (): Promise<{ Running: boolean; ExitCode: number | null }> =>
      (await api.call("GET", `/exec/${exec}/json`)).json() as { Running: boolean; ExitCode: number | null };

    before(
      async () => {
        earlier = await earlierVersion(earliest);
        ({ daemon, pushAgent } = await backend.start(earlier, resources));
        await ok("network", "create", "inner");
        await ok("network", "create", "own");
        await ok("volume", "create", "data");
        if (backend.hasBlockVolumes) {
          await ok("volume", "create", "--driver=block", "--opt=size=16m", "blocked");
        }
        const run = (name: string, options: readonly string[], command: readonly string[]): Promise<string> =>
          ok("run", "--detach", `--name=${name}`, ...options, "busybox", ...command);
        await Promise.all([
          ...Object.entries(containers).map(([name, [options, command]]) => run(name, options, command)),
          run("paused", [], sleep).then(() => ok("pause", "paused")),
          run("stopped", ["--restart=unless-stopped"], sleep).then(() => ok("stop", "--time=1", "stopped")),
          run("failed", ["--restart=on-failure:1"], shell("exit 9")),
          daemon.docker("run", "--name=ended", "busybox", ...shell("echo said; exit 3")),
          ok("create", "--name=created", "busybox", "echo", "started"),
        ]);
        await ok("network", "connect", "inner", "running");
        await ok("exec", "running", ...shell("until [ -e /data/file ]; do usleep 10000; done"));
        await untilTrue(async () => (await inspect("failed", restarts)) === "exited 1");
        port = await ok("port", "serves", "80");
        const Cmd = shell("until [ -e /go ]; do usleep 100000; done; exit 5");
        const created = await api.call("POST", "/containers/running/exec", { Cmd });
        exec = (created.json() as { Id: string }).Id;
        assert.equal((await api.call("POST", `/exec/${exec}/start`, { Detach: true })).status, 200);
      },
      { timeout: 6 * buildLimitMs },
    );
    after(async () => {
      await resources.disposeAsync();
    });

    /** All that holds of the containers, whichever version runs. */
    const goesOn = async (): Promise<void> => {
      assert.deepEqual(await names(), new Set([...Object.keys(containers), ...others]));
      for (const name of Object.keys(containers)) {
        assert.equal(await stateOf(name), "running", name);
        assert.equal(await ok("exec", name, "echo", "answers"), "answers", name);
      }
      const states = await Promise.all(others.map((name) => stateOf(name)));
      assert.deepEqual(states, ["created", "exited", "exited", "paused", "exited"]);
      assert.equal(await inspect("ended", "{{.State.ExitCode}}"), "3");
      assert.equal(await inspect("failed", restarts), "exited 1");
      assert.equal(await inspect("failed", "{{.State.ExitCode}}"), "9");
      assert.equal(await ok("logs", "ended"), "said");
      assert.equal(await ok("logs", "running"), "first");
      const copy = join(daemon.directory, "copy");
      await ok("cp", "running:/file", copy);
      assert.equal(await readFile(copy, "utf8"), "kept\n");
      for (const [name, health] of [
        ["healthy", "healthy"],
        ["sick", "unhealthy"],
      ] as const) {
        await untilTrue(async () => (await inspect(name, "{{.State.Health.Status}}")) === health);
      }
      assert.equal(await ok("exec", "running", "cat", "/data/file"), "kept");
      assert.equal((await execState()).Running, true);
      assert.equal(await ok("port", "serves", "80"), port);
      assert.equal(await until(() => saidAt(port)), "served\n");
      assert.equal(await ok("exec", "running", ...shell("nc known 80 </dev/null")), "served");
      if (backend.hasBlockVolumes) {
        assert.equal(await ok("exec", "owner", "cat", "/data/file"), "kept");
        const { errorText } = await daemon.docker("create", "--volume=blocked:/data", "busybox");
        assert.match(errorText, /in use by container owner/);
      }
    };

    /** Makes a change of the daemon while clients exec and follow, and asserts what they hear. */
    const beneathStreams = async (change: () => Promise<void>): Promise<void> => {
      const script = "echo first; until [ -e /go ]; do usleep 10000; done; echo last; exit 4";
      await ok("run", "--detach", "--name=talks", "busybox", ...shell(script));
      const logs = new FollowingClient(daemon, "logs", "--follow", "talks");
      const wait = new FollowingClient(daemon, "wait", "talks");
      const reads = shell("echo begun; read -r word; echo got $word; exit 6");
      const typed = new FollowingClient(daemon, "exec", "--interactive", "talks", ...reads);
      await Promise.all([logs.receives("first"), typed.receives("begun")]);
      await change();
      if (backend.keepsConnections) {
        typed.write("it\n");
        assert.deepEqual([await typed.exitCode(), typed.stdout], [6, "begun\ngot it\n"], typed.stderr);
      } else {
        // One that was cut never counts as one that has succeeded.
        assert.notEqual(await typed.exitCode(), 0);
      }
      await ok("exec", "talks", "touch", "/go");
      await untilTrue(async () => (await stateOf("talks")) === "exited");
      if (backend.keepsConnections) {
        assert.deepEqual([await logs.exitCode(), logs.stdout], [0, "first\nlast\n"], logs.stderr);
        assert.deepEqual([await wait.exitCode(), wait.stdout], [0, "4\n"], wait.stderr);
      } else {
        await Promise.all([logs.leave(), wait.leave()]);
      }
      assert.equal(await ok("logs", "talks"), "first\nlast");
      assert.equal(await inspect("talks", "{{.State.ExitCode}}"), "4");
      await ok("rm", "talks");
    };

    it("leaves all containers as they are, old shims and agents among them", {
      timeout: buildLimitMs,
    }, async () => {
      await goesOn();
      await beneathStreams(async () => {
        await daemon.shutDown();
        await daemon.launch(current);
      });
      await goesOn();
    });

    it("is good for what they are asked then", { timeout: buildLimitMs }, async () => {
      await pushAgent?.();
      await writeFile(join(daemon.directory, "in"), "into\n");
      await ok("cp", join(daemon.directory, "in"), "running:/in");
      assert.equal(await ok("exec", "running", "cat", "/in"), "into");
      const asked = await daemon.dockerWith({ input: "a word\n" }, "exec", "-i", "asks", "cat");
      assert.equal(asked.text, "a word");
      const peer = shell("nc known 80 </dev/null");
      assert.equal(await ok("run", "--rm", "--network=own", "busybox", ...peer), "served");
    });

    it("goes back, or is refused with the state as it is", { timeout: buildLimitMs }, async () => {
      await daemon.shutDown();
      await daemon.launch(join(earlier, "bin/sockerless"));
      await goesOn();
    });

    it("leaves them so where it is killed in the middle", { timeout: 2 * buildLimitMs }, async () => {
      // The old processes are killed, then the new ones as soon as there is a backend of theirs.
      await beneathStreams(async () => {
        for (const program of [current, current, current]) {
          process.kill(await processOf(daemon, "backend"), "SIGKILL");
          const supervisor = daemon.pid;
          process.kill(supervisor, "SIGKILL");
          await untilTrue(() => !isAlive(supervisor));
          await daemon.launch(program);
        }
      });
      await goesOn();
    });

    it("ends with containers that stop, start and go as ever", { timeout: buildLimitMs }, async () => {
      await ok("exec", "running", "touch", "/go");
      await untilTrue(async () => !(await execState()).Running);
      assert.equal((await execState()).ExitCode, 5);
      await ok("unpause", "paused");
      assert.equal(await ok("exec", "paused", "echo", "answers"), "answers");
      const kept = backend.hasBlockVolumes ? ["running", "owner"] : ["running"];
      for (const name of kept) {
        await ok("stop", "--time=1", name);
        assert.equal(await stateOf(name), "exited");
        await ok("start", name);
        assert.equal(await ok("exec", name, "cat", "/data/file"), "kept");
      }
      await ok("exec", "restarts", "touch", "/end");
      await untilTrue(async () => (await inspect("restarts", restarts)) === "running 1");
      assert.equal(await ok("start", "--attach", "created"), "started");
      const before = await names();
      const removed = new Set(["asks", "terminal", "paused"]);
      await ok("rm", "--force", ...removed);
      assert.deepEqual(await names(), before.difference(removed));
    });
  });
}

/** Reads what a published port says to a client; undefined if nobody listens. */
async function saidAt(address: string): Promise<string | undefined> {
  const socket = connect(Number(address.split(":").at(-1)), "127.0.0.1");
  try {
    await once(socket, "connect");
    return await text(socket);
  } catch {
    return undefined;
  } finally {
    socket.destroy();
  }
}
