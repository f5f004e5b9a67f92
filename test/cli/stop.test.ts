/** `sockerless stop`: it ends the daemon of a state directory, and never another process. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import fs, { constants } from "node:fs";
import { chown, mkdir, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { describe, it } from "node:test";

import { stop } from "../../src/cli/stop.ts";
import { BackgroundDaemon } from "../support/background-daemon.ts";
import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { isAlive } from "../support/processes.ts";
import { untilTrue } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

/** User and group `nobody`. */
const nobody = 65_534;

/** Linux's flag of a descriptor that reads nothing; it demands no more than the passage to what it names. */
const pathOnly = 0o10000000;

interface Pretence {
  /** User ID and group ID. */
  readonly uid?: number;
  /** Flags with which it opens the directory. */
  readonly flags?: number;
  /** A program that becomes it, with its arguments. */
  readonly within?: readonly string[];
  /** True if it ignores SIGTERM. */
  readonly isStubborn?: boolean;
}

/** A process that has a title and a directory open, once it has. */
async function pretend(
  title: string,
  directory: string,
  { uid = 0, flags = constants.O_RDONLY, within = [], isStubborn = false }: Pretence = {},
): Promise<ChildProcess & AsyncDisposable> {
  const script = [
    "process.title = process.argv[1]",
    "require('fs').openSync(process.argv[2], Number(process.argv[3]))",
    isStubborn ? "process.on('SIGTERM', () => {})" : "",
    "console.log()",
    "setInterval(() => {}, 1e6)",
  ].join("; ");
  const command = [...within, process.execPath, "-e", script, title, directory, String(flags)];
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], uid, gid: uid });
  await once(child.stdout, "data");
  return Object.assign(child, {
    async [Symbol.asyncDispose]() {
      const ended = child.exitCode === null && child.signalCode === null && once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  });
}

describe("sockerless stop", () => {
  it("finds none where none runs, which is no error", async () => {
    await using daemon = await BackgroundDaemon.create();
    const none = `no sockerless serve runs with state directory ${daemon.stateDir}`;
    const { code, text } = await daemon.stop();
    assert.deepEqual([code, text], [0, none]); // There is no such directory.
    await mkdir(daemon.stateDir);
    assert.equal((await daemon.stop()).text, none);
  });

  it("leaves alone what is no daemon, or another directory's", async () => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    await using titled = await pretend("sockerless", daemon.directory);
    await using reading = await pretend("sockerless-reader", daemon.stateDir);
    // As anybody can who may pass through the directory.
    await using passing = await pretend("sockerless", daemon.stateDir, { flags: pathOnly });
    const { code, text } = await daemon.stop();
    assert.deepEqual([code, text], [0, `no sockerless serve runs with state directory ${daemon.stateDir}`]);
    assert.ok([titled, reading, passing].every(({ pid = 0 }) => isAlive(pid)));
  });

  it("knows a daemon that was killed for gone, and starts anew what it has left", async () => {
    await using daemon = await BackgroundDaemon.create();
    assert.equal((await daemon.start()).code, 0);
    process.kill(await daemon.pid(), "SIGKILL");
    await untilTrue(() => daemon.processes().size === 0);
    assert.match((await daemon.stop()).text, /^no sockerless serve runs/);
    assert.equal((await daemon.start()).code, 0);
    assert.match((await daemon.stop()).text, /^sockerless has ended/);
  });

  it("ends one of two daemons, whose state directory the configuration names", inSoak, async () => {
    await using first = await BackgroundDaemon.create();
    await using second = await BackgroundDaemon.create();
    assert.deepEqual([(await first.start()).code, (await second.start()).code], [0, 0]);
    const config = join(first.directory, "config.yaml");
    // A cloud's section may be incomplete: only the state directory is read.
    await writeFile(config, `backend: ecs\nstate_dir: ${first.stateDir}\n`);
    const program = join(checkout, "bin/sockerless");
    const stopped = await runCommand(program, ["stop", "--config", config]);
    assert.match(stopped.text, /^sockerless has ended/, stopped.errorText);
    assert.deepEqual(first.processes(), new Map());
    assert.equal((await second.docker("version")).code, 0);
  });

  it("ends one that runs in the foreground, whose state directory a link leads to", async () => {
    await using daemon = await Daemon.start();
    const { pid } = daemon;
    const program = join(checkout, "bin/sockerless");
    const byLink = `/proc/self/root${daemon.stateDir}`;
    const stopped = await runCommand(program, ["stop", "--state-dir", byLink]);
    assert.equal(stopped.text, `sockerless has ended (process ${pid}, state directory ${byLink})`);
    assert.ok(!isAlive(pid));
  });

  it("ends one that several end at once", inSoak, async () => {
    await using daemon = await BackgroundDaemon.create();
    assert.equal((await daemon.start()).code, 0);
    for (const { code, text } of await Promise.all([daemon.stop(), daemon.stop(), daemon.stop()])) {
      assert.equal(code, 0);
      assert.match(text, /^sockerless has ended|^no sockerless serve runs/);
    }
    assert.deepEqual(daemon.processes(), new Map());
  });

  it("waits for one that ends already, and sends it no second signal, which would end it at once", async () => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    await using ending = await pretend("sockerless (ending)", daemon.stateDir);
    await using running = await pretend("sockerless", daemon.stateDir);
    const exits = [once(running, "exit"), once(ending, "exit")];
    const stopping = daemon.stop();
    assert.deepEqual(await exits[0], [null, "SIGTERM"]); // The other was looked at with it.
    ending.kill("SIGKILL");
    assert.deepEqual(await exits[1], [null, "SIGKILL"]);
    const { text } = await stopping;
    assert.ok(
      [running, ending].every(({ pid }) => text.includes(String(pid))),
      text,
    );
  });

  it("tells that it waits, and for how long at most", inSoak, async () => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    await using ending = await pretend("sockerless", daemon.stateDir, { isStubborn: true });
    const stopping = spawn(join(checkout, "bin/sockerless"), ["stop", "--state-dir", daemon.stateDir]);
    const exit = once(stopping, "exit");
    const [told] = (await once(stopping.stderr, "data")) as [Buffer];
    assert.equal(
      told.toString(),
      `sockerless stop: waiting for the end of process ${ending.pid}, for 90 s at most\n`,
    );
    ending.kill("SIGKILL");
    assert.deepEqual(await exit, [0, null]);
  });

  it("fails once one has not ended within the limit", async () => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    await using ending = await pretend("sockerless", daemon.stateDir, { isStubborn: true });
    await assert.rejects(
      stop(daemon.stateDir, () => {}, 200),
      {
        message: `process ${ending.pid} still runs 0.2 s after it was asked to end`,
      },
    );
    assert.ok(isAlive(ending.pid ?? 0));
  });

  it("takes one that ends by itself before it is signalled for ended", async (t) => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    await using ending = await pretend("sockerless", daemon.stateDir);
    const kill = t.mock.method(process, "kill", () => {
      ending.kill("SIGKILL");
      throw Object.assign(new Error("kill ESRCH"), { code: "ESRCH" });
    });
    assert.match(await stop(daemon.stateDir, () => {}), /^sockerless has ended/);
    assert.equal(kill.mock.callCount(), 1);
  });

  it("ends one that has a file open which cannot be looked at", async (t) => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    await using ending = await pretend("sockerless", daemon.stateDir);
    const { statSync } = fs;
    const refused = t.mock.method(fs, "statSync", (path: fs.PathLike, options: fs.BigIntOptions) => {
      if (path === `/proc/${ending.pid}/fd/0`) {
        throw Object.assign(new Error("permission denied"), { code: "EACCES" });
      }
      return statSync(path, options);
    });
    syncBuiltinESMExports();
    t.after(() => {
      refused.mock.restore();
      syncBuiltinESMExports();
    });
    assert.match(await stop(daemon.stateDir, () => {}), /^sockerless has ended/);
  });

  it("leaves a setuid program alone that another user has begun", async () => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    const within = ["setpriv", `--ruid=${nobody}`];
    await using other = await pretend("sockerless", daemon.stateDir, { within });
    const { code, errorText } = await daemon.stop();
    assert.ok(errorText.includes(`process ${other.pid} of user ID ${nobody} and 0`), errorText);
    assert.equal(code, 1);
    assert.ok(isAlive(other.pid ?? 0));
  });

  it("leaves another user's alone, and says whose it is", async () => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    await using other = await pretend("sockerless", "/", { uid: nobody });
    const program = join(checkout, "bin/sockerless");
    const { code, errorText } = await runCommand(program, ["stop", "--state-dir", "/"]);
    assert.equal(
      errorText,
      `sockerless stop: state directory / is in use by process ${other.pid} of user ID ${nobody}: stop it as that user`,
    );
    assert.equal(code, 1);
    assert.ok(isAlive(other.pid ?? 0));
  });

  it("does not tell another user that none runs, who cannot see it", async () => {
    await using daemon = await Daemon.start();
    const program = join(checkout, "bin/sockerless");
    const ids = [`--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"];
    const stopped = await runCommand("setpriv", [...ids, program, "stop", "--state-dir", "/"]);
    assert.match(stopped.errorText, /state directory \/ belongs to user ID 0, whose processes are not shown/);
    assert.equal(stopped.code, 1);
    assert.ok(isAlive(daemon.pid));
  });

  it("does not tell that none runs where it is not shown what one has open", async () => {
    await using daemon = await BackgroundDaemon.create();
    await mkdir(daemon.stateDir);
    for (const path of [daemon.directory, daemon.stateDir]) {
      await chown(path, nobody, nobody);
    }
    await using root = await pretend("sockerless", daemon.stateDir);
    const program = join(checkout, "bin/sockerless");
    for (const privileges of [
      [`--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"],
      ["--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace"],
    ]) {
      const command = [...privileges, program, "stop", "--state-dir", daemon.stateDir];
      const { code, text, errorText } = await runCommand("setpriv", command);
      assert.deepEqual([code, text], [1, ""]);
      // Others' daemons may run here, too.
      assert.match(errorText, new RegExp(`not shown whether .* by .*process ${root.pid} of user ID 0`));
    }
    assert.ok(isAlive(root.pid ?? 0));
  });
});
