/**
 * A daemon of an earlier version, with containers of every kind, is upgraded in place: all go on under the new one, with the
 * shims and agents that they have. On this machine, on ECS and on Azure, in order and by kills. Only with SOCKERLESS_SOAK=1
 * (`npm run soak -- packages`).
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { buildLimitMs } from "../support/command.ts";
import { AcaAccount } from "../support/aca-daemon.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { EcsAccount } from "../support/ecs-daemon.ts";
import { earlierVersion } from "../support/earlier-version.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { processOf } from "../support/processes.ts";
import { until } from "../support/until.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const earlierCommit = "f804cce8";
const current = join(checkout, "bin/sockerless");

const backends = ["local", "ecs", "aca"] as const;
type BackendName = (typeof backends)[number];

/** Starts the earlier version on a backend, in a cloud with an agent of that version; it has busybox. */
async function startEarlier(
  backend: BackendName,
  earlier: string,
  resources: AsyncDisposableStack,
): Promise<Daemon> {
  const program = join(earlier, "bin/sockerless");
  const start = async (account?: EcsAccount | AcaAccount, later = {}): Promise<Daemon> => {
    const inCloud = account && {
      args: ["--backend", backend, ...account.args],
      env: { ...account.env, ...later },
    };
    return resources.use(await Daemon.start({ program, ...inCloud }));
  };
  if (backend === "aca") {
    // The earlier version refuses this key in a file, and warns of it in the environment.
    const aca = { files_endpoint: undefined };
    const account = resources.use(await AcaAccount.open({ agentOf: earlier, aca }));
    const { files_endpoint: files } = account.azure.config;
    const daemon = await start(account, { SOCKERLESS_ACA_FILES_ENDPOINT: files });
    await daemon.ok("pull", account.image("busybox:latest"));
    await daemon.ok("tag", account.image("busybox:latest"), "busybox");
    return daemon;
  }
  const daemon = await start(
    backend === "ecs" ? resources.use(await EcsAccount.open({ agentOf: earlier })) : undefined,
  );
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  return daemon;
}

for (const backend of backends) {
  describe(`an upgrade on ${backend}`, { skip: !isWhole && "it is made in the soak" }, () => {
    const resources = new AsyncDisposableStack();
    let daemon: Daemon;
    let earlier: string;
    const ok = (...args: string[]): Promise<string> => daemon.ok(...args);
    const stateOf = (name: string): Promise<string> => ok("inspect", "--format={{.State.Status}}", name);
    const names = async (): Promise<string[]> =>
      (await ok("ps", "--all", "--format={{.Names}}")).split("\n").toSorted();

    before(
      async () => {
        earlier = await earlierVersion(earlierCommit);
        daemon = await startEarlier(backend, earlier, resources);
        await ok("network", "create", "inner");
        await ok("volume", "create", "data");
        const loop = "echo first; echo kept >/file; echo kept >/data/file; exec sleep 100000";
        const run = ["run", "--detach", "--network=inner"];
        await ok(...run, "--name=running", "--volume=data:/data", "busybox", "sh", "-c", loop);
        await ok("exec", "running", "sh", "-c", "until [ -e /data/file ]; do usleep 10000; done");
        const echo = "trap 'exit 7' TERM; while read -r line; do echo got $line; done; sleep 100000 & wait";
        await ok("run", "--detach", "--interactive", "--name=asks", "busybox", "sh", "-c", echo);
        await ok("run", "--detach", "--tty", "--name=terminal", "busybox", "sh");
        const check = ["--health-cmd=test -e /file", "--health-interval=1s"];
        await ok(
          "run",
          "--detach",
          "--name=healthy",
          ...check,
          "busybox",
          "sh",
          "-c",
          "touch /file; exec sleep 100000",
        );
        await ok("run", "--detach", "--name=restarts", "--restart=always", "busybox", "sleep", "100000");
        await ok("run", "--name=ended", "busybox", "sh", "-c", "echo said; exit 3").catch(() => {});
        await ok("create", "--name=created", "busybox", "echo", "started");
      },
      { timeout: 6 * buildLimitMs },
    );
    after(async () => {
      await resources.disposeAsync();
    });

    /** All that holds of the containers, whichever version runs. */
    const goesOn = async (): Promise<void> => {
      assert.deepEqual(await names(), [
        "asks",
        "created",
        "ended",
        "healthy",
        "restarts",
        "running",
        "terminal",
      ]);
      for (const name of ["asks", "healthy", "restarts", "running", "terminal"]) {
        assert.equal(await stateOf(name), "running", name);
        assert.equal(await ok("exec", name, "echo", "answers"), "answers", name);
      }
      assert.deepEqual([await stateOf("created"), await stateOf("ended")], ["created", "exited"]);
      assert.equal(await ok("inspect", "--format={{.State.ExitCode}}", "ended"), "3");
      assert.equal(await ok("logs", "ended"), "said");
      assert.equal(await ok("logs", "running"), "first");
      const copy = join(daemon.directory, "copy");
      await ok("cp", "running:/file", copy);
      assert.equal(await readFile(copy, "utf8"), "kept\n");
      await until(
        async () => (await ok("inspect", "--format={{.State.Health.Status}}", "healthy")) === "healthy",
      );
      assert.equal(await ok("exec", "running", "cat", "/data/file"), "kept");
    };

    it("leaves all containers as they are, old shims and agents among them", {
      timeout: buildLimitMs,
    }, async () => {
      await goesOn();
      await daemon.shutDown();
      await daemon.launch(current);
      await goesOn();
    });

    it("is good for what they are asked then", { timeout: buildLimitMs }, async () => {
      await writeFile(join(daemon.directory, "in"), "into\n");
      await ok("cp", join(daemon.directory, "in"), "running:/in");
      assert.equal(await ok("exec", "running", "cat", "/in"), "into");
      const asked = await daemon.dockerWith({ input: "a word\n" }, "exec", "-i", "asks", "cat");
      assert.equal(asked.text, "a word");
      assert.equal(await ok("run", "--rm", "busybox", "echo", "new"), "new");
    });

    it("goes back, or is refused with the state as it is", { timeout: buildLimitMs }, async () => {
      await daemon.shutDown();
      await daemon.launch(join(earlier, "bin/sockerless"));
      await goesOn();
    });

    it("leaves them so where it is killed in the middle", { timeout: 2 * buildLimitMs }, async () => {
      // The old processes are killed, then the new ones as soon as there is a backend of theirs.
      for (const program of [current, current, current]) {
        process.kill(await processOf(daemon, "backend"), "SIGKILL");
        const supervisor = daemon.pid;
        process.kill(supervisor, "SIGKILL");
        await until(() => !isAlive(supervisor));
        await daemon.launch(program);
      }
      await goesOn();
    });

    it("ends with containers that stop, start and go as ever", { timeout: buildLimitMs }, async () => {
      await ok("stop", "--time=1", "running");
      assert.equal(await stateOf("running"), "exited");
      await ok("kill", "restarts");
      await until(async () => (await stateOf("restarts")) === "running");
      await ok("start", "running");
      assert.equal(await ok("exec", "running", "cat", "/data/file"), "kept");
      assert.equal(await ok("start", "--attach", "created"), "started");
      await ok("rm", "--force", "asks", "terminal");
      assert.deepEqual(await names(), ["created", "ended", "healthy", "restarts", "running"]);
    });
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
