/** `sockerless serve --detach`: what stays is the daemon alone, or nothing. */
import assert from "node:assert/strict";
import { fork, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { constants as fileConstants, readFileSync, readlinkSync, writeSync } from "node:fs";
import { cp, mkdir, open, readdir, readFile, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";

import { BackgroundDaemon } from "../support/background-daemon.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { processesBelow } from "../support/processes.ts";
import { inSoak, sampled } from "../support/soak.ts";
import { Terminal } from "../support/terminal.ts";
import { untilTrue } from "../support/until.ts";

/** Fields of `/proc/<pid>/stat` behind the name: parent, group, session and terminal. */
function relationsOf(pid: number): { session: number; terminal: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const [, , , session, terminal] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { session: Number(session), terminal: Number(terminal) };
}

/** The processes of a daemon that nobody uses, by their first words. */
const idle = [
  "sockerless",
  "sockerless-agent",
  "sockerless-agent",
  "sockerless-backend",
  "sockerless-frontend",
];

function programsOf(daemon: BackgroundDaemon): string[] {
  const programs = [...daemon.processes().values()].map(
    (command) => command.split(" ")[0]?.split("/").at(-1) ?? "",
  );
  return programs.toSorted((a, b) => a.localeCompare(b));
}

describe("a daemon in the background", () => {
  it("is told of once it serves, outlives its terminal, and ends with all that is its own", async () => {
    await using daemon = await BackgroundDaemon.create();
    const [program, ...args] = daemon.command();
    const terminal = await Terminal.run(program, args, daemon.env);
    await terminal.see(`export DOCKER_HOST=${daemon.host}\r\n`);
    const pid = await daemon.pid();
    await terminal.see(`sockerless runs in the background as process ${pid}, log in ${daemon.log}\r\n`);
    assert.equal(await terminal.exitCode(), 0); // Its terminal is gone, too.
    assert.deepEqual(relationsOf(pid), { session: pid, terminal: 0 });
    assert.equal(readlinkSync(`/proc/${pid}/cwd`), process.cwd());
    const hello = await daemon.docker("run", "--rm", "sockerless/hello");
    assert.match(hello.text, /Hello from a sockerless container/);
    assert.equal((await stat(daemon.log)).mode & 0o777, 0o600);
    const stopped = await daemon.stop();
    assert.equal(stopped.text, `sockerless has ended (process ${pid}, state directory ${daemon.stateDir})`);
    assert.equal(stopped.code, 0);
    assert.deepEqual(daemon.processes(), new Map());
    assert.deepEqual(processesBelow(daemon.directory), []);
  });

  it("has nothing open of those who started it", inSoak, async () => {
    await using daemon = await BackgroundDaemon.create();
    const [program, ...args] = daemon.command();
    // As shells and service managers leave some: a low descriptor, and a high one that Node itself does not close.
    const stdio = ["pipe", "pipe", "pipe", "pipe", ...Array<"ignore">(196).fill("ignore"), "pipe"] as const;
    const child = spawn(program, args, { env: daemon.env, stdio: [...stdio] });
    const outputs = [1, 2, 3, 200].map((index) => child.stdio[index] as NodeJS.ReadableStream);
    const texts = outputs.map((stream) => text(stream));
    let isAllClosed = false;
    const allText = Promise.all(texts).finally(() => {
      isAllClosed = true;
    });
    await untilTrue(() => isAllClosed);
    const [said, told, low, high] = await allText;
    assert.equal(said, `export DOCKER_HOST=${daemon.host}\n`);
    assert.match(told ?? "", /^sockerless runs in the background as process \d+, log in \S+\n$/);
    assert.deepEqual([low, high], ["", ""]);
    assert.equal((await daemon.docker("version")).code, 0);
    assert.equal(readlinkSync(`/proc/${await daemon.pid()}/fd/0`), "/dev/null");
  });

  it("logs to the file that is asked for, and goes on at its begin when that is cut", async () => {
    await using daemon = await BackgroundDaemon.create();
    const log = join(daemon.directory, "own.log");
    await writeFile(log, "before\n");
    const { errorText } = await daemon.start("--log-file", log);
    assert.ok(errorText.endsWith(`log in ${log}`), errorText);
    const [first, ...lines] = (await readFile(log, "utf8")).trimEnd().split("\n");
    assert.equal(first, "before");
    assert.ok(lines.length > 0);
    for (const line of lines) {
      assert.equal(typeof JSON.parse(line), "object", line);
    }
    await truncate(log); // As logrotate's copytruncate does.
    process.kill(await daemon.pid(), "SIGHUP");
    await untilTrue(async () => (await readFile(log, "utf8")).includes("there is nothing to read again"));
    assert.match(await readFile(log, "utf8"), /^\{/);
    assert.ok(!(await readdir(daemon.stateDir)).includes("sockerless.log"));
  });

  it("is begun with exit code 0 where what is told of it cannot be written", inSoak, async () => {
    for (const script of [
      '"$@" >/dev/full 2>/dev/full; echo $?',
      'exec 3>&1; { "$@" 3>&-; echo $? >&3; } 2>&1 | true',
    ]) {
      await using daemon = await BackgroundDaemon.create();
      const { text: code } = await runCommand("sh", ["-c", script, "sh", ...daemon.command()], {
        env: daemon.env,
      });
      assert.equal(code, "0", script);
      assert.equal((await daemon.docker("version")).code, 0);
    }
  });

  it("is ended by no signal to the command that has told of it", async () => {
    await using daemon = await BackgroundDaemon.create();
    await using full = await fullPipe(join(daemon.directory, "output"));
    const [program, ...args] = daemon.command();
    const telling = spawn(program, args, { env: daemon.env, stdio: ["ignore", full.fd, "pipe"] });
    assert.ok(telling.stderr !== null);
    assert.match(String((await once(telling.stderr, "data"))[0]), /^sockerless runs in the background/);
    telling.kill("SIGTERM");
    await untilTrue(() => telling.signalCode === "SIGTERM");
    assert.equal((await daemon.docker("version")).code, 0);
    assert.ok([...daemon.processes().values()].includes("sockerless"));
  });

  it("is all that stays of npm start, and ends by npm stop", inSoak, async () => {
    await using daemon = await BackgroundDaemon.create();
    const clone = join(daemon.directory, "clone");
    await mkdir(join(clone, "scripts"), { recursive: true });
    await mkdir(join(clone, "bin"));
    for (const path of ["package.json", "scripts/start.sh"]) {
      await cp(join(checkout, path), join(clone, path));
    }
    await writeFile(join(clone, "scripts/prepare-serve.mjs"), "");
    await symlink(join(checkout, "bin/sockerless"), join(clone, "bin/sockerless"));
    const [, , ...flags] = daemon.command();
    const npm = (...args: string[]) =>
      runCommand("npm", ["--silent", ...args], { cwd: clone, env: daemon.env });
    const started = await npm("start", "--", ...flags);
    assert.equal(started.text, `export DOCKER_HOST=${daemon.host}`, started.errorText);
    await untilTrue(() => daemon.processes().size === idle.length); // Some are begun behind the first answer.
    assert.deepEqual(programsOf(daemon), idle);
    const stopped = await npm("stop", "--", "--state-dir", daemon.stateDir);
    assert.match(stopped.text, /^sockerless has ended/);
    assert.equal(stopped.code, 0);
    assert.deepEqual(programsOf(daemon), []);
  });
});

describe("a daemon that does not come to serve", () => {
  it("tells why, ends with its own exit code, and leaves the one that is there alone", async () => {
    await using first = await BackgroundDaemon.create();
    await using second = await BackgroundDaemon.create();
    assert.equal((await first.start()).code, 0);
    const inUse = await second.start("--host", first.host);
    assert.match(inUse.errorText, /another process already serves the Docker API on unix:/);
    assert.match(inUse.errorText, /ended before it served, with exit code 1; log in /);
    assert.deepEqual([inUse.code, inUse.text], [1, ""]);
    assert.deepEqual(programsOf(second), []);
    const again = await first.start();
    assert.match(again.errorText, /^sockerless backend: state directory \S+ is in use by another/);
    assert.equal(again.code, 1);
    assert.equal((await first.docker("version")).code, 0);
  });

  it("is not begun where a flag is wrong, or the log cannot be opened", async () => {
    await using daemon = await BackgroundDaemon.create();
    const wrong = await daemon.start("--log-levle", "info");
    assert.match(wrong.errorText, /^error: unknown option '--log-levle'/);
    assert.equal(wrong.code, 1);
    const value = await daemon.start("--log-level", "loud");
    assert.match(value.errorText, /log_level must be one of/);
    assert.equal(value.code, 1);
    const log = await daemon.start("--log-file", daemon.directory);
    assert.match(log.errorText, /^sockerless serve: cannot open log file \S+: EISDIR/);
    assert.equal(log.code, 1);
    assert.deepEqual(daemon.processes(), new Map());
  });

  it("tells the signal that has killed it", inSoak, async () => {
    await using daemon = await BackgroundDaemon.create();
    await using starting = await Starting.begin(daemon);
    process.kill(await daemon.pid(), "SIGKILL");
    assert.equal(await starting.terminal.exitCode(), 128 + 9);
    assert.match(starting.terminal.screen, /ended before it served, with SIGKILL; log in /);
  });

  it("is what Ctrl-C ends, with all that it has begun", inSoak, async () => {
    await using daemon = await BackgroundDaemon.create();
    await using starting = await Starting.begin(daemon);
    starting.terminal.type("\x03");
    await starting.letGoOnceEnding();
    assert.equal(await starting.terminal.exitCode(), 128 + 2);
    assert.deepEqual(daemon.processes(), new Map());
  });

  for (const signal of ["SIGTERM", "SIGHUP"] as const) {
    it(
      `is what ${signal} to the command that waits ends, with all that it has begun`,
      sampled(signal === "SIGTERM"),
      async () => {
        await using daemon = await BackgroundDaemon.create();
        await using starting = await Starting.begin(daemon);
        process.kill(waitingFor(daemon), signal);
        await starting.letGoOnceEnding();
        assert.equal(await starting.terminal.exitCode(), 128 + constants.signals[signal]);
        assert.deepEqual(daemon.processes(), new Map());
      },
    );
  }

  it("ends with the command that waits for it, however that ends", inSoak, async () => {
    await using daemon = await BackgroundDaemon.create();
    await using starting = await Starting.begin(daemon);
    process.kill(waitingFor(daemon), "SIGKILL");
    await starting.letGoOnceEnding();
    await untilTrue(() => daemon.processes().size === 0);
  });

  it("ends where the command that waits for it is gone before its code is loaded", async () => {
    const preload = "data:text/javascript,await new Promise((gone) => process.once('disconnect', gone))";
    const daemon = fork(join(checkout, "dist/bundle/cli/serve-detached.js"), {
      execArgv: ["--import", preload],
      silent: true,
    });
    assert.ok(daemon.stderr !== null);
    const [told, exit] = [text(daemon.stderr), once(daemon, "exit")];
    daemon.disconnect();
    assert.deepEqual(await exit, [1, null]);
    assert.equal(await told, "");
  });

  it("ends by sockerless stop, which both commands tell", async () => {
    await using daemon = await BackgroundDaemon.create();
    await using starting = await Starting.begin(daemon);
    const stopping = daemon.stop();
    await starting.letGoOnceEnding();
    assert.match((await stopping).text, /^sockerless has ended/);
    assert.equal(await starting.terminal.exitCode(), 1);
    assert.match(starting.terminal.screen, /ended before it served, with exit code 0; log in /);
    assert.deepEqual(daemon.processes(), new Map());
  });
});

/** Process ID of the command that waits for a daemon. */
function waitingFor(daemon: BackgroundDaemon): number {
  return [...daemon.processes()].find(([, command]) => command.includes("serve-process.js"))?.[0] ?? 0;
}

/** Makes a pipe into which nothing more can be written. */
async function fullPipe(path: string): Promise<Awaited<ReturnType<typeof open>>> {
  spawnSync("mkfifo", [path]);
  const pipe = await open(path, fileConstants.O_RDWR | fileConstants.O_NONBLOCK);
  assert.throws(() => {
    for (;;) {
      writeSync(pipe.fd, Buffer.alloc(4096));
    }
  }, /EAGAIN/);
  return pipe;
}

/** A daemon that starts for as long as nothing is written to a pipe: its frontend reads a certificate from it. */
class Starting implements AsyncDisposable {
  readonly terminal: Terminal;
  readonly #daemon: BackgroundDaemon;
  readonly #certificate: Awaited<ReturnType<typeof open>>;

  private constructor(
    terminal: Terminal,
    daemon: BackgroundDaemon,
    certificate: Awaited<ReturnType<typeof open>>,
  ) {
    this.terminal = terminal;
    this.#daemon = daemon;
    this.#certificate = certificate;
  }

  /** Begins one at a terminal, and waits until it reads the pipe. */
  static async begin(daemon: BackgroundDaemon): Promise<Starting> {
    const pipe = join(daemon.directory, "certificate.pem");
    spawnSync("mkfifo", [pipe]);
    const tls = ["--tlscacert", pipe, "--tlscert", "/dev/null", "--tlskey", "/dev/null"];
    const [program, ...args] = daemon.command("--host", "tcp://127.0.0.1:0", ...tls);
    const terminal = await Terminal.run(program, args, daemon.env);
    return new Starting(terminal, daemon, await open(pipe, "w")); // Waits for a reader.
  }

  /** Has the read end, which nothing could interrupt, once the daemon was asked to end. */
  async letGoOnceEnding(): Promise<void> {
    await untilTrue(() => [...this.#daemon.processes().values()].includes("sockerless (ending)"));
    await this.#certificate.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#certificate.close();
  }
}
